/* The core where there is neither a DOM nor Node: only what React Native has too. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createContext, runInContext } from 'node:vm';
import { WebSocket } from 'ws';
import { FakeServer } from './fake_server.js';
import { FAST, until } from './helpers.js';
import { bundle } from './sizes.js';

/* React Native's has signals without a reason. */
class BareController {
  #control = new AbortController();
  signal = new Proxy(this.#control.signal, {
    get: (signal, name) => {
      const value = name === 'reason' || name === 'throwIfAborted' ? undefined : signal[name];
      return typeof value === 'function' ? value.bind(signal) : value;
    },
  });

  abort() {
    this.#control.abort();
  }
}

/* fetch() itself wants a real one. */
function bareFetch(input, { signal, ...init }) {
  const control = new AbortController();
  if (signal.aborted) control.abort();
  signal.addEventListener('abort', () => control.abort());
  return fetch(input, { ...init, signal: control.signal });
}

const code = await bundle("import { Parley, ParleyError } from './index.js'; Object.assign(globalThis, { Parley, ParleyError })");

const bare = () => {
  const globals = { setTimeout, clearTimeout, setInterval, clearInterval, console, WebSocket, fetch: bareFetch, AbortController: BareController };
  const world = createContext(globals);
  runInContext(code, world);
  return world;
};

for (const transport of ['websocket', 'longpoll']) {
  test(`${transport}: the core needs fetch, WebSocket, AbortController and timers, and nothing else`, async (t) => {
    const server = await FakeServer.start();
    const { Parley } = bare();
    const kept = new Map();
    const storage = {
      getItem: async (key) => kept.get(key) ?? null,
      setItem: async (key, value) => void kept.set(key, value),
      removeItem: async (key) => void kept.delete(key),
    };
    const client = new Parley({ url: server.url, getToken: async () => 'token', transports: [transport], timing: FAST, storage });
    t.after(() => (client.close(), server.stop()));
    const [seen, errors, article] = [[], [], []];
    client.on('event', ({ event_id: id }) => seen.push(id));
    client.on('error', (error) => errors.push(error.code));
    client.subscribe({ community: 42, article: 7 }, ({ event_id: id }) => article.push(id));
    client.connect();
    await until(() => client.state === 'connected' && server.reaches(client.queueId));
    const ids = [server.publish({ article_id: 7 }).event_id];
    await until(() => seen.length === 1);
    client.cut();
    ids.push(server.publish({ article_id: 7 }).event_id);
    await until(() => seen.length === 2 && client.state === 'connected');
    await client.catchup(async ({ cursor }) => assert.equal(cursor, ids[1]));
    await client.publish({ type: 'new_comment', data: { community_id: 42 } });
    client.wake();
    client.close({ keepQueue: true });
    client.connect();
    ids.push(server.publish({ article_id: 7 }).event_id);
    await until(() => seen.length === 3);
    assert.deepEqual([seen, article, errors], [ids, ids, []]);
    assert.equal(JSON.parse([...kept.values()][0]).queueId, client.queueId);
  });
}

test('a token that no atob() can read is one that the server tells the life of', async (t) => {
  const server = await FakeServer.start();
  server.tokenLifeMs = 200;
  const { Parley } = bare();
  let asked = 0;
  const client = new Parley({ url: server.url, getToken: () => `a.b${(asked += 1)}.c`, transports: ['websocket'], timing: FAST });
  t.after(() => (client.close(), server.stop()));
  client.connect();
  await until(() => server.messages.filter(({ op }) => op === 'refresh').length >= 2);
});
