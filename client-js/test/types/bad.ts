/* Each statement must be refused. The comment above it names the error; types.test.js compares. */
import { Parley } from 'parley-client';
import type { ParleyEvent } from 'parley-client';

// @expect TS2345
new Parley({ url: 'https://example.org' });
// @expect TS2353
new Parley({ url: 'https://example.org', getToken: () => 't', tokens: 1 });
// @expect TS2322
new Parley({ url: 'https://example.org', getToken: () => 1 });
// @expect TS2322
new Parley({ url: 'https://example.org', getToken: () => 't', transports: ['sse'] });
// @expect TS2561
new Parley({ url: 'https://example.org', getToken: () => 't', timing: { pings: 1 } });
// @expect TS2322
new Parley({ url: 'https://example.org', register: async () => ({ queue: 'q' }) });

declare const parley: Parley;
// @expect TS2345
parley.on('message', () => {});
// @expect TS2339
parley.on('state', ({ status }) => status);
// @expect TS2741
parley.subscribe({ article: 1 }, () => {});
// @expect TS18046
parley.subscribe({ community: 1 }, (event) => event.data.text);
// @expect TS2741
parley.publish({ type: 'new_comment' });
// @expect TS2540
parley.state = 'connected';
// @expect TS2367
parley.state === 'open';
// @expect TS2559
parley.close(true);

declare const event: ParleyEvent;
// @expect TS18048
event.community_ids.length;
