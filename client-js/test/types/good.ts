/* Compiles under --strict: what an application writes. */
import { ERRORS, Parley, ParleyError, actionOf } from 'parley-client';
import type { Action, Codec, Gap, ParleyClient, ParleyEvent, Registration, State, StorageLike, Undo, WebSocketClass } from 'parley-client';
import { msgpack } from 'parley-client/msgpack';
import { WebSocket } from 'ws';

interface NewComment {
  article_id: number;
  comment: { id: number; text: string };
}

const parley = new Parley({
  url: 'https://example.org',
  getToken: async ({ signal }) => (await fetch('/token', { signal })).text(),
  codec: msgpack,
  transports: ['websocket', 'longpoll'],
  storage: sessionStorage,
  signal: new AbortController().signal,
  page: null,
  timing: { pingMs: 10_000 },
  WebSocket,
});

new Parley({ url: 'https://example.org', register: async (): Promise<Registration> => (await fetch('/api/realtime/register', { method: 'POST' })).json() });
new Parley({ url: 'https://example.org', register: () => null, getToken: () => undefined, WebSocket: globalThis.WebSocket });
new Parley({ url: 'https://example.org', queue: { queue_id: 'q', last_event_id: 1 } });

const client: ParleyClient = parley;
const asyncStorage: StorageLike = {
  getItem: async (key: string) => key,
  setItem: async (key: string, value: string) => void [key, value],
  removeItem: async (key: string) => void key,
};
const kept: StorageLike = localStorage;
const socketClass: WebSocketClass = WebSocket;
const codec: Codec = { name: 'json', contentType: 'application/json', binary: false, encode: JSON.stringify, decode: (text: string) => JSON.parse(text) };

const undo: Undo = parley.on('event', (event) => event.event_id.toFixed());
parley.on('event', async (event: ParleyEvent) => void event.data, { signal: new AbortController().signal });
parley.on('state', ({ state, transport, retryInMs, error }) => [state satisfies State, transport?.length, retryInMs?.toFixed(), error?.code.length]);
parley.on('gap', ({ reason, communities, articles }: Gap) => reason === 'trimmed' && [...(communities ?? []), ...(articles ?? [])]);
parley.on('signal', ({ type, ...rest }) => [type, rest]);
parley.on('latency', (ms) => ms.toFixed());
parley.on('error', (error) => error instanceof ParleyError && actionOf(error.close ?? 1006, error.code) satisfies Action);

parley.subscribe<NewComment>({ community: 42, article: 789 }, async ({ data }) => data.comment.text.trim());
parley.publish({ type: 'new_comment', data: { text: 'hello' }, communities: [42] }).then(({ event_id }) => event_id + 1);
parley.catchup(async ({ cursor, signal }) => (await fetch(`/rows?at=${cursor}`, { signal })).json() as Promise<string[]>).then((rows) => rows.join());

async function iterate() {
  for await (const event of parley) event.type satisfies string;
  for await (const { data } of client.events<NewComment>({ community: 42, article: 789 })) data.comment.id satisfies number;
}

const row: readonly [number, number, Action] | undefined = ERRORS.forbidden;
const latency: number | undefined = client.latency;
const communities: readonly number[] | undefined = client.communities;

export { asyncStorage, codec, communities, iterate, kept, latency, row, socketClass, undo };
