// parley-client behind real proxies that are in the way of WebSocket, from Node and from Chromium, at its default
// timing, while numbered events are published.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { after, before, describe, test as bareTest } from 'node:test';
import WebSocket from 'ws';
import { Application, CHROMIUM, CLIENT, launch, logIn, openPage } from './application.mjs';
import { Server, mint, sleep, until } from './harness.mjs';
import { Numbers, assertSeen, logOf, lossesOf, statesOf } from './numbered.mjs';
import { BINARIES, Proxy, WAYS, installed } from './proxies.mjs';

const { Parley } = await import(pathToFileURL(path.join(CLIENT, 'src/index.js')));

/* When the numbers come, so that links are quiet for as long as the proxy has no patience; what must carry them in the
 * end; and how often a link may be lost until then. */
const EXPECTED = {
  fair: { pace: { everyMs: 100 }, transport: 'websocket', lastingMs: 2000, losses: 0 },
  refused: { pace: { everyMs: 100 }, transport: 'longpoll', lastingMs: 2000, losses: 0 },
  killed: { pace: { everyMs: 700, burst: 3 }, transport: 'longpoll', lastingMs: 3000, losses: 3 },
  buffering: { pace: { everyMs: 100 }, transport: 'longpoll', lastingMs: 2000, losses: 0 },
};

const NAMES = Object.keys(BINARIES).filter(installed);
const LISTENING = ['Node', 'Chromium'].filter((who) => who === 'Node' || existsSync(CHROMIUM));

/* Two idle cuts teach the client to stay below the third. Over WebSocket an event is followed by its acknowledgement, which is
 * traffic too: there is none until that time is over. */
const IDLE = {
  websocket: { pace: { everyMs: 32_000, burst: 3 }, late: true, transport: 'websocket', lastingMs: 33_000, losses: 2 },
  longpoll: { pace: { everyMs: 11_000, burst: 3 }, transport: 'longpoll', lastingMs: 33_000, losses: 2 },
};

/* Pages are opened when no cut is due: one that is noticed late on a busy machine looks like one of another age. */
const BETWEEN_MS = 12_000;

let server;
let application;
let browser;
let lastCommunity = 100;

before(async () => {
  application = await Application.start();
  server = await Server.start();
  if (existsSync(CHROMIUM)) browser = await launch();
});

after(async () => {
  await browser?.close();
  await server.stop();
  await application.stop();
});

/* What listens: { log(), now(): { state, transport }, close() }. */
const LISTENERS = {
  async Node(url, community, from, transports) {
    const getToken = () => mint(`of ${community}`, [community]);
    const parley = new Parley({ url, WebSocket, getToken, transports: transports?.split(','), lastEventId: from });
    const log = logOf(parley);
    parley.connect();
    return {
      log: () => log,
      now: () => ({ state: parley.state, transport: parley.transport }),
      close: () => parley.close(),
    };
  },

  async Chromium(url, community, from, transports) {
    const context = await browser.newContext();
    const page = await openPage(context, url, { community, from, transports });
    return {
      log: () => logIn(page),
      now: () => page.evaluate(() => ({ state: globalThis.parley?.state, transport: globalThis.parley?.transport })),
      close: () => context.close(),
    };
  },
};

async function run(who, proxy, { pace, transport, lastingMs, losses, afterMs = 0, late = false }, transports) {
  await sleep(afterMs);
  const community = ++lastCommunity;
  const numbers = new Numbers(server, community, pace);
  let from = await numbers.start();
  if (late) {
    await numbers.more(pace.burst);
    from = numbers.last.id;
  }
  const listener = await LISTENERS[who](proxy.url, community, from, transports);
  try {
    await until(async () => {
      const now = await listener.now();
      return now.state === 'connected' && (!transport || now.transport === transport);
    }, `${transport ?? 'connected'}`, 20_000);
    await sleep(lastingMs);
    await numbers.stop();
    const log = await assertSeen(listener.log, numbers, { from, who });
    assert.ok(lossesOf(log) <= losses, `${lossesOf(log)} links lost: ${statesOf(log).join(', ')}`);
    if (transport) await until(async () => (await listener.now()).transport === transport, `${transport} in the end`, 5_000); // it may be between two
  } finally {
    await numbers.stop();
    await listener.close();
  }
}

/* All at once, the longest first: most of the time is spent waiting for a proxy to lose its patience. */
describe('every number once and in order', { concurrency: true }, () => {
  const proxies = {};

  before(async () => {
    for (const name of NAMES) {
      for (const way of WAYS) proxies[name + way] = await Proxy.start(name, way, { server: server.url, application: application.url });
    }
  });
  after(() => Promise.all(Object.values(proxies).map((proxy) => proxy.stop())));

  for (const name of NAMES) {
    for (const who of LISTENING) {
      const test = (title, way, expected, transports) => bareTest(`${name} ${title}, ${who}`, { timeout: 120_000 },
        () => run(who, proxies[name + way], expected, transports));
      for (const transport of Object.keys(IDLE)) test(`idle, ${transport}`, 'idle', IDLE[transport], transport);
      for (const way of Object.keys(EXPECTED)) test(way, way, { ...EXPECTED[way], afterMs: BETWEEN_MS });
    }
  }
});

for (const name of Object.keys(BINARIES)) if (!installed(name)) bareTest(name, { skip: 'is not installed' });
