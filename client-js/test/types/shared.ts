/* Must compile, and each line marked so must not. */
import type { ParleyClient, ParleyError } from 'parley-client';
import { SharedParley, type SharedStateChange } from 'parley-client/shared';

const getToken = async () => 'token';
const shared = new SharedParley({ url: 'https://example.org', getToken, name: 'ada', storage: sessionStorage, timing: { beatMs: 400, holdS: 50 } });
new SharedParley({ url: 'https://example.org', register: () => fetch('/register').then((response) => response.json()) });
new SharedParley({ url: 'https://example.org', queue: { queue_id: 'q' }, locks: navigator.locks, BroadcastChannel });
new SharedParley({ url: 'https://example.org', getToken, locks: null });

const client: ParleyClient = shared;
const undo: () => void = shared.on('state', ({ state, leader, error }: SharedStateChange) => [state, leader, error?.code]);
shared.on('error', (error: ParleyError) => error.code);
shared.subscribe<{ text: string }>({ community: 42, article: 7 }, ({ data }) => data.text.length);
const id: Promise<{ event_id: number }> = client.publish({ type: 'new_comment', data: { community_id: 42 } });
const leads: boolean = shared.leader;
void [undo, id, leads];

// @ts-expect-error it needs a way in
new SharedParley({ url: 'https://example.org' });
// @ts-expect-error nobody chooses to lead
shared.leader = true;
// @ts-expect-error no such event
shared.on('leader', () => {});
// @ts-expect-error no such wait
new SharedParley({ url: 'https://example.org', getToken, timing: { beat: 400 } });
