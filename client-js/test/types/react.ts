/* Must compile, and each line marked so must not. */
import { createElement as h } from 'react';
import { Parley, type ParleyClient } from 'parley-client';
import { ParleyProvider, useConnection, useEvents, useParley, type Connection } from 'parley-client/react';

const parley = new Parley({ url: 'https://example.org', getToken: () => 'token' });

interface Comment {
  comment: { id: number; text: string };
}

export function Comments({ article }: { article?: number }) {
  const client: ParleyClient = useParley();
  const { state, transport, node, latency, leader }: Connection = useConnection();
  useEvents<Comment>({ community: 42, article: 7 }, ({ data }) => data.comment.text.length);
  useEvents(article !== undefined && { community: 42, article }, async (event) => void event.event_id, { onGap: ({ articles }) => articles });
  useEvents(null, () => {});
  useEvents({}, () => {});
  // @ts-expect-error an article is one of a community
  useEvents({ article: 7 }, () => {});
  // @ts-expect-error what the data are is to be said
  useEvents({ community: 42 }, ({ data }) => data.comment);
  // @ts-expect-error a listening has something to call
  useEvents({ community: 42 });
  // @ts-expect-error it is shown, not changed
  useConnection().state = 'connected';
  return h('p', null, state, transport, node, latency, leader ? 'leads' : client.queueId);
}

h(ParleyProvider, { value: parley }, h(Comments));
// @ts-expect-error a provider provides
h(ParleyProvider, {}, h(Comments));
