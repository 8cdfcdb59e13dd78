import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { Window } from 'happy-dom';
import { setup, until } from './helpers.js';

/* Before react-dom is loaded, which looks for them once. */
const window = new Window();
Object.assign(globalThis, { window, document: window.document, IS_REACT_ACT_ENVIRONMENT: true });
globalThis.navigator ??= window.navigator;
const { StrictMode, act, createElement: h } = await import('react');
const { createRoot } = await import('react-dom/client');
const { renderToString } = await import('react-dom/server');
const { ParleyProvider, useConnection, useEvents, useParley } = await import('../src/react.js');

const roots = [];
afterEach(async () => {
  for (const root of roots.splice(0)) await act(() => root.unmount());
});

async function render(element) {
  const container = document.createElement('div');
  const root = createRoot(container);
  roots.push(root);
  await act(() => root.render(element));
  return { container, root, update: (next) => act(() => root.render(next)), unmount: () => act(() => root.unmount()) };
}

/* What the hooks use of a client, told by hand. */
class Client {
  state = 'idle';
  calls = [];
  listeners = new Map();

  connect() {
    this.calls.push('connect');
    this.set({ state: 'connecting' });
  }

  close() {
    this.calls.push('close');
    this.set({ state: 'closed' });
  }

  on(name, handler) {
    const entry = { handler };
    if (!this.listeners.has(name)) this.listeners.set(name, new Set());
    this.listeners.get(name).add(entry);
    return () => this.listeners.get(name).delete(entry);
  }

  subscribe({ community, article }, handler) {
    const topic = article === undefined ? `${community}` : `${community}/${article}`;
    this.calls.push(`subscribe ${topic}`);
    const off = this.on('event', handler);
    return () => {
      this.calls.push(`unsubscribe ${topic}`);
      off();
    };
  }

  tell(name, value) {
    for (const { handler } of [...(this.listeners.get(name) ?? [])]) handler(value);
  }

  set(values) {
    Object.assign(this, values);
    this.tell('state', values);
  }

  get listening() {
    return [...this.listeners.values()].reduce((sum, { size }) => sum + size, 0);
  }
}

const aTurn = () => act(() => new Promise((resolve) => setTimeout(resolve, 5)));
const Listener = ({ topic, handler, onGap }) => void useEvents(topic, handler, { onGap }) ?? null;
const provide = (value, ...children) => h(ParleyProvider, { value }, ...children);

/* ------------------------------------------------------------------------------------------- provider */

test('a hook without a provider says what is missing', () => {
  const Lonely = () => (useParley(), null);
  assert.throws(() => renderToString(h(Lonely)), /ParleyProvider/);
});

test('an idle client is connected by its provider and closed with it', async () => {
  const client = new Client();
  const { unmount } = await render(provide(client));
  assert.deepEqual(client.calls, ['connect']);
  await unmount();
  await aTurn();
  assert.deepEqual(client.calls, ['connect', 'close']);
});

test('a client that somebody else connected is not closed', async () => {
  const client = new Client();
  client.set({ state: 'connected' });
  const { unmount } = await render(provide(client));
  await unmount();
  await aTurn();
  assert.deepEqual(client.calls, []);
});

test('Strict Mode connects once and listens once', async () => {
  const client = new Client();
  const seen = [];
  const handler = (event) => seen.push(event.event_id);
  await render(h(StrictMode, null, provide(client, h(Listener, { topic: { community: 42 }, handler }))));
  await aTurn();
  assert.deepEqual(client.calls.filter((call) => !call.includes('subscribe')), ['connect']);
  client.tell('event', { event_id: 1 });
  assert.deepEqual(seen, [1]);
});

test('a client with two providers is closed with the last of them', async () => {
  const client = new Client();
  const [first, second] = [await render(provide(client)), await render(provide(client))];
  await first.unmount();
  await aTurn();
  assert.deepEqual(client.calls, ['connect']);
  await second.unmount();
  await aTurn();
  assert.deepEqual(client.calls, ['connect', 'close']);
});

test('another client takes the place of the first', async () => {
  const [one, two] = [new Client(), new Client()];
  const seen = [];
  const listener = h(Listener, { topic: { community: 42 }, handler: (event) => seen.push(event.event_id) });
  const { update } = await render(provide(one, listener));
  await update(provide(two, listener));
  await aTurn();
  assert.deepEqual(one.calls, ['subscribe 42', 'connect', 'unsubscribe 42', 'close']);
  assert.deepEqual(two.calls, ['subscribe 42', 'connect']);
  one.tell('event', { event_id: 1 });
  two.tell('event', { event_id: 2 });
  assert.deepEqual(seen, [2]);
});

/* ------------------------------------------------------------------------------------------- useEvents */

test('the newest handler is called, and nothing is subscribed again for it', async () => {
  const client = new Client();
  const seen = [];
  const view = (name) => provide(client, h(Listener, { topic: { community: 42, article: 7 }, handler: ({ event_id: id }) => seen.push(`${name}${id}`) }));
  const { update } = await render(view('a'));
  client.tell('event', { event_id: 1 });
  await update(view('b'));
  client.tell('event', { event_id: 2 });
  assert.deepEqual(seen, ['a1', 'b2']);
  assert.deepEqual(client.calls, ['subscribe 42/7', 'connect']);
});

test('another topic is subscribed to in place of the first', async () => {
  const client = new Client();
  const view = (topic) => provide(client, h(Listener, { topic, handler() {} }));
  const { update, unmount } = await render(view({ community: 42 }));
  await update(view({ community: 43, article: 7 }));
  await unmount();
  assert.deepEqual(client.calls.filter((call) => call.includes('subscribe')), ['subscribe 42', 'unsubscribe 42', 'subscribe 43/7', 'unsubscribe 43/7']);
  assert.equal(client.listening, 0);
});

test('no topic listens to nothing, an empty one to everything without narrowing', async () => {
  const client = new Client();
  const seen = [];
  const view = (topic) => provide(client, h(Listener, { topic, handler: (event) => seen.push(event.event_id) }));
  const { update } = await render(view(null));
  assert.equal(client.listening, 0);
  await update(view({}));
  client.tell('event', { event_id: 1 });
  assert.deepEqual(seen, [1]);
  assert.deepEqual(client.calls, ['connect']);
});

test('a gap is told to those whose topic it concerns', async () => {
  const client = new Client();
  const told = [];
  const of = (topic) => h(Listener, { key: JSON.stringify(topic), topic, handler() {}, onGap: () => told.push(topic) });
  const [all, whole, one, other, elsewhere] = [{}, { community: 42 }, { community: 42, article: 7 }, { community: 42, article: 8 }, { community: 43 }];
  await render(provide(client, [all, whole, one, other, elsewhere].map(of)));
  client.tell('gap', { reason: 'trimmed', communities: [42], articles: [7], lastEventId: 9 });
  assert.deepEqual(told, [all, whole, one]);
  told.length = 0;
  client.tell('gap', { reason: 'trimmed', communities: [42], lastEventId: 9 });
  assert.deepEqual(told, [all, whole, one, other]);
  told.length = 0;
  client.tell('gap', { reason: 'epoch', lastEventId: 9 });
  assert.equal(told.length, 5);
});

test('an async handler gives its promise to the client, which waits for it', async () => {
  const client = new Client();
  const promise = Promise.resolve();
  await render(provide(client, h(Listener, { topic: {}, handler: () => promise })));
  const [{ handler }] = client.listeners.get('event');
  assert.equal(handler({ event_id: 1 }), promise);
});

/* --------------------------------------------------------------------------------------- useConnection */

function connectionView() {
  const renders = [];
  return { renders, View: () => (renders.push(useConnection()), null) };
}

test('the connection is rendered again when it changes, and only then', async () => {
  const client = new Client();
  const { renders, View } = connectionView();
  await render(provide(client, h(View)));
  await act(() => client.set({ state: 'connected', transport: 'websocket', node: 'n1' }));
  assert.deepEqual(renders.at(-1), { state: 'connected', transport: 'websocket', node: 'n1', latency: undefined, leader: undefined });
  const before = renders.length;
  await act(() => client.set({}));
  assert.equal(renders.length, before);
  client.latency = 12;
  await act(() => client.tell('latency', 12));
  assert.equal(renders.at(-1).latency, 12);
  assert.equal(renders.at(-1).state, 'connected');
});

test('every component sees the same object, and the last to leave stops listening', async () => {
  const client = new Client();
  client.set({ state: 'connected' });
  const [one, two] = [connectionView(), connectionView()];
  const { unmount } = await render(provide(client, h(one.View), h(two.View)));
  assert.equal(one.renders.at(-1), two.renders.at(-1));
  await unmount();
  assert.equal(client.listening, 0);
});

test('a server renders an idle connection and starts nothing', () => {
  const client = new Client();
  client.state = 'connected';
  const View = () => h('p', null, useConnection().state);
  assert.equal(renderToString(provide(client, h(View), h(Listener, { topic: {}, handler() {} }))), '<p>idle</p>');
  assert.deepEqual([client.calls, client.listening], [[], 0]);
});

/* -------------------------------------------------------------------------------------- the real client */

test('with the real client: an event, the connection, and nothing left behind', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  const seen = [];
  const { renders, View } = connectionView();
  const { unmount } = await render(provide(client, h(View), h(Listener, { topic: { community: 42, article: 7 }, handler: (event) => seen.push(event.data.n) })));
  await act(() => until(() => client.state === 'connected' && server.messages.some(({ op }) => op === 'subscribe')));
  assert.equal(renders.at(-1).state, 'connected');
  await act(async () => {
    server.publish({ article_id: 7, n: 1 });
    await until(() => seen.length === 1);
  });
  assert.deepEqual(seen, [1]);
  await unmount();
  await until(() => server.messages.some(({ op }) => op === 'unsubscribe'));
  assert.equal(client.state, 'connected');
});
