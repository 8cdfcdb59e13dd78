// parley-client against nodes of parleyd on a real Redis: Redis that does not answer for a while, and nodes that are
// killed behind a proxy without sticky sessions, while numbered events are published.

import assert from 'node:assert/strict';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { after, before, describe, test as bareTest } from 'node:test';
import WebSocket from 'ws';
import { CLIENT } from './application.mjs';
import { mint, sleep, until } from './harness.mjs';
import { Numbers, assertSeen, eventsOf, gapsOf, logOf, lossesOf, statesOf } from './numbered.mjs';
import { BINARIES, Proxy, installed as proxyInstalled } from './proxies.mjs';
import { Redis, installed, node } from './redis.mjs';

const { Parley } = await import(pathToFileURL(path.join(CLIENT, 'src/index.js')));

const EVENTS = 1000;
const skip = !installed && 'no redis-server';
const test = (name, run) => bareTest(name, { timeout: 120_000, skip }, run);

let redis;
let nodes = [];
let lastCommunity = 100;

before(async () => {
  if (skip) return;
  redis = await Redis.start();
  nodes = await Promise.all(['left', 'right'].map((name) => node(redis, name)));
});

after(async () => {
  await Promise.all(nodes.map(({ now }) => now.stop()));
  await redis?.stop();
});

/** A client of a community that must see all that follows `from`. */
function listen(url, community, from, options) {
  const parley = new Parley({ url, WebSocket, getToken: () => mint(`of ${community}`, [community]), lastEventId: from, ...options });
  const log = logOf(parley);
  parley.connect();
  return { parley, log };
}

const connected = (parley, transport) => until(
  () => parley.state === 'connected' && (!transport || parley.transport === transport), `connected ${transport ?? ''}`, 15_000);

describe('Redis does not answer for a while', () => {
  test('over both transports that is told; what is published afterwards arrives once', async () => {
    const own = await Redis.start();
    const alone = await node(own, 'alone', { 'bus.timeout': '500ms' });
    const listeners = [];
    try {
      const community = ++lastCommunity;
      const numbers = new Numbers(alone.now, community, { everyMs: 20 });
      const from = await numbers.start();
      /* A poll is not answered for it: it is told by the next answer. */
      for (const transport of ['websocket', 'longpoll']) listeners.push(listen(alone.url, community, from, { transports: [transport], timing: { holdS: 1 } }));
      const all = (state) => until(() => listeners.every(({ parley }) => parley.state === state), state, 15_000);
      await all('connected');
      await numbers.more(10);
      await numbers.stop();
      own.pause();
      await all('degraded');
      own.resume();
      await all('connected');
      const id = await alone.now.publish(community, { n: numbers.published.length + 1 });
      numbers.published.push({ n: numbers.published.length + 1, id });
      for (const { parley, log } of listeners) {
        const [transport] = statesOf(log).find((state) => state.startsWith('connected')).split('/').slice(1);
        await assertSeen(() => log, numbers, { from, who: transport });
        assert.deepEqual(statesOf(log), ['connecting', ...['connected', 'degraded', 'connected'].map((state) => `${state}/${transport}`)]);
        assert.equal(parley.state, 'connected');
      }
    } finally {
      for (const { parley } of listeners) parley.close();
      await sleep(50);
      own.resume();
      await alone.now.stop();
      await own.stop();
    }
  });
});

/* Each time the node that has the socket is killed; polls go to both in turn, so either will do. Numbers are published on
 * the one that stays. */
async function throughKills({ parley, numbers, publishOn }) {
  for (const transport of ['longpoll', 'websocket', 'longpoll', 'websocket']) {
    if (transport === 'longpoll') parley.forbid('websocket');
    else parley.allow('websocket');
    await connected(parley, transport);
    const killed = nodes.find(({ options }) => options['server.node'] === parley.node);
    publishOn(nodes.find((other) => other !== killed));
    await numbers.more(EVENTS / 10);
    await killed.restart(300);
    await connected(parley, transport);
    await numbers.more(EVENTS / 10);
  }
}

describe('two nodes behind a proxy, killed in turn: fallback and upgrade', () => {
  for (const name of Object.keys(BINARIES)) {
    bareTest(name, { timeout: 120_000, skip: skip || (!proxyInstalled(name) && 'is not installed') }, async (t) => {
      const proxy = await Proxy.start(name, 'fair', { server: nodes.map(({ url }) => url) });
      const community = ++lastCommunity;
      let on = nodes[0];
      const numbers = new Numbers(() => on.now, community, { everyMs: 10 });
      const from = await numbers.start();
      const { parley, log } = listen(proxy.url, community, from);
      try {
        await connected(parley, 'websocket');
        const queue = parley.queueId;
        await throughKills({ parley, numbers, publishOn: (other) => { on = other; } });
        await until(() => numbers.published.length >= EVENTS, `${EVENTS} numbers`, 30_000);
        await numbers.stop();
        await assertSeen(() => log, numbers, { from });
        assert.deepEqual([eventsOf(log).length, gapsOf(log).length], [numbers.published.length, 0]);
        assert.equal(parley.queueId, queue, 'one queue all along');
        assert.ok(lossesOf(log) >= 2, 'sockets were lost');
        t.diagnostic(`${eventsOf(log).length} numbers; ${statesOf(log).join(' ')}`);
      } finally {
        await numbers.stop();
        parley.close();
        await sleep(50);
        await proxy.stop();
      }
    });
  }
});
