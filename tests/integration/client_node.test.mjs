// parley-client in Node against the real server: both transports with both codecs, while numbered events are published.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { after, before, describe, test as bareTest } from 'node:test';
import WebSocket from 'ws';
import { CLIENT, Mortal } from './application.mjs';
import { HERE, Server, mint, sleep, until } from './harness.mjs';
import { Numbers, assertSeen, eventsOf, gapsOf, logOf, lossesOf, statesOf } from './numbered.mjs';

const { Parley } = await import(pathToFileURL(path.join(CLIENT, 'src/index.js')));
const { msgpack } = await import(pathToFileURL(path.join(CLIENT, 'src/msgpack.js')));

const WAYS = ['websocket', 'longpoll'].flatMap((transport) => ['json', 'msgpack'].map((codec) => ({ transport, codec })));
const test = (name, run) => bareTest(name, { timeout: 120_000 }, run);

let server;
let lastCommunity = 100;
let open = [];

before(async () => { server = await Server.start({ 'auth.leeway': '0' }); });
after(async () => {
  for (const parley of open) parley.close();
  await sleep(50);
  await server.stop();
});

/** A client of a community, its log kept; options as of Parley. */
function listen(community, options = {}) {
  const token = () => mint(community, [community], { scope: 'publish' });
  const ways = options.register || options.queue ? {} : { getToken: token };
  const parley = new Parley({ url: server.url, WebSocket, ...ways, ...options });
  open.push(parley);
  const log = logOf(parley);
  return { parley, log };
}

const optionsOf = ({ transport, codec }) => ({ transports: [transport], codec: codec === 'msgpack' ? msgpack : undefined });
const connected = (parley) => until(() => parley.state === 'connected', 'connected');

/** What went over the wire: subprotocols of sockets and types of answers. */
function tapped() {
  const seen = new Set();
  class Tapped extends WebSocket {
    constructor(...args) {
      super(...args);
      this.on('open', () => seen.add(this.protocol));
    }
  }
  const tappedFetch = async (...args) => {
    const response = await fetch(...args);
    if (/realtime\/(poll|register|send)/.test(args[0])) seen.add(`${response.headers.get('Content-Type')}`.split(';')[0]);
    return response;
  };
  return { seen, WebSocket: Tapped, fetch: tappedFetch };
}

describe('over each transport with each codec', { concurrency: true }, () => {
  for (const way of WAYS) {
    const title = `${way.transport} ${way.codec}`;

    test(`${title}: every number once and in order, through cuts`, async () => {
      const community = ++lastCommunity;
      const numbers = new Numbers(server, community, { everyMs: 10 });
      const from = await numbers.start();
      const { seen, ...tap } = tapped();
      const { parley, log } = listen(community, { ...optionsOf(way), ...tap, lastEventId: from });
      parley.connect();
      for (let cut = 0; cut < 4; cut += 1) {
        await connected(parley);
        await numbers.more(20);
        parley.cut();
      }
      await connected(parley);
      await numbers.stop();
      await assertSeen(() => log, numbers, { from });
      assert.ok(statesOf(log).filter((state) => state.startsWith('waiting')).length >= 4, 'was cut');
      const wire = way.transport === 'websocket' ? `parley.v1.${way.codec}` : `application/${way.codec}`;
      assert.deepEqual([...seen], [wire], 'nothing else on the wire');
    });

    test(`${title}: what it publishes reaches others and not itself`, async () => {
      const community = ++lastCommunity;
      const [ada, ben] = [listen(community, optionsOf(way)), listen(community, optionsOf(way))];
      for (const { parley } of [ada, ben]) {
        parley.connect();
        await connected(parley);
      }
      const ids = [];
      for (let n = 1; n <= 5; n += 1) {
        ids.push((await ada.parley.publish({ type: 'new_comment', communities: [community], data: { n, text: 'Grüße 😀' } })).event_id);
      }
      await until(() => eventsOf(ben.log).length === 5, 'five events');
      assert.deepEqual(eventsOf(ben.log), ids.map((id, i) => ['event', i + 1, id]));
      await assert.rejects(ada.parley.publish({ type: 'x', communities: [community + 10_000], data: {} }), ({ code }) => !!code);
      assert.deepEqual(eventsOf(ada.log), []);
      assert.deepEqual(ben.parley.communities, [community]);
      assert.ok(ben.parley.node, 'the node is named');
    });

    test(`${title}: a handler that takes its time gets everything in order`, async () => {
      const community = ++lastCommunity;
      const numbers = new Numbers(server, community, { everyMs: 5, burst: 5 });
      const from = await numbers.start();
      const { parley } = listen(community, { ...optionsOf(way), lastEventId: from, maxPending: 10 });
      const slow = [];
      let running = 0;
      parley.on('event', async ({ event_id: id, data: { n } }) => {
        assert.equal(++running, 1, 'calls do not overlap');
        await sleep(n % 5);
        slow.push(['event', n, id]);
        running -= 1;
      });
      parley.connect();
      await numbers.more(300);
      await numbers.stop();
      await assertSeen(() => slow, numbers, { from, timeoutMs: 10_000 });
    });

    test(`${title}: narrowed to an article, and wide again`, async () => {
      const community = ++lastCommunity;
      const { parley } = listen(community, optionsOf(way));
      const seen = [];
      parley.on('event', ({ data }) => seen.push(data.n));
      const articles = [];
      const undo = parley.subscribe({ community, article: 1 }, ({ data }) => articles.push(data.article_id));
      parley.connect();
      await connected(parley);
      let n = 0;
      await until(async () => {
        const other = ++n;
        const wanted = ++n;
        await server.publish(community, { article_id: 2, n: other });
        await server.publish(community, { article_id: 1, n: wanted });
        await until(() => seen.includes(wanted), 'the event of the article');
        return !seen.includes(other);
      }, 'the server to have narrowed');
      undo();
      parley.subscribe({ community }, () => {});
      await until(async () => {
        const other = ++n;
        await server.publish(community, { article_id: 2, n: other });
        await sleep(50);
        return seen.includes(other);
      }, 'the server to have widened');
      assert.deepEqual([...new Set(articles)], [1]);
    });
  }
});

describe('the client through its life', { concurrency: true }, () => {
  test('WebSocket forbidden and allowed again and again: never a gap, never a duplicate', async () => {
    const community = ++lastCommunity;
    const numbers = new Numbers(server, community, { everyMs: 5 });
    const from = await numbers.start();
    const { parley, log } = listen(community, { lastEventId: from });
    parley.connect();
    await connected(parley);
    const queue = parley.queueId;
    for (let round = 0; round < 3; round += 1) {
      parley.forbid('websocket');
      await until(() => parley.transport === 'longpoll' && parley.state === 'connected', 'long-poll');
      await numbers.more(20);
      parley.allow('websocket');
      await until(() => parley.transport === 'websocket', 'WebSocket');
      await numbers.more(20);
    }
    await numbers.stop();
    await assertSeen(() => log, numbers, { from });
    assert.equal(parley.queueId, queue, 'one queue all along');
    assert.ok(!statesOf(log).slice(2).some((state) => state.startsWith('waiting')), `no waiting: ${statesOf(log)}`);
  });

  test('another client goes on from a queue that was kept', async () => {
    const community = ++lastCommunity;
    const numbers = new Numbers(server, community, { everyMs: 10 });
    const from = await numbers.start();
    const first = listen(community, { lastEventId: from });
    first.parley.connect();
    await connected(first.parley);
    await numbers.more(20);
    const { queueId: queue_id, lastEventId: last_event_id } = first.parley;
    first.parley.close({ keepQueue: true });
    await numbers.more(20);
    const second = listen(community, { queue: { queue_id, last_event_id }, transports: ['longpoll'] });
    second.parley.connect();
    await numbers.more(20);
    await numbers.stop();
    await assertSeen(() => [...first.log, ...second.log], numbers, { from });
  });

  test('a reload with storage goes on where it was', async () => {
    const community = ++lastCommunity;
    const numbers = new Numbers(server, community, { everyMs: 10 });
    const from = await numbers.start();
    const kept = new Map();
    const storage = {
      getItem: (key) => kept.get(key) ?? null,
      setItem: (key, value) => { kept.set(key, String(value)); },
      removeItem: (key) => { kept.delete(key); },
    };
    const log = [];
    for (let reload = 0; reload < 4; reload += 1) {
      const { parley, log: part } = listen(community, { storage, lastEventId: reload ? undefined : from });
      parley.connect();
      await connected(parley);
      await numbers.more(20);
      parley.close({ keepQueue: true });
      log.push(...part);
      await numbers.more(10);
    }
    const last = listen(community, { storage });
    last.parley.connect();
    await numbers.stop();
    await assertSeen(() => [...log, ...last.log], numbers, { from });
  });

  test("the application's own registration is asked again when the queue is gone", async () => {
    const community = ++lastCommunity;
    const numbers = new Numbers(server, community, { everyMs: 10 });
    await numbers.start();
    let asked = 0;
    const register = async () => {
      asked += 1;
      return server.api('register', { user_id: `r${community}`, community_ids: [community] });
    };
    for (const transport of ['websocket', 'longpoll']) {
      asked = 0;
      const { parley, log } = listen(community, { register, transports: [transport] });
      parley.connect();
      await connected(parley);
      const from = parley.lastEventId;
      log.splice(0, log.length);
      await numbers.more(20);
      await fetch(`${server.url}/realtime/unregister?queue_id=${parley.queueId}`, { method: 'POST' });
      parley.cut();
      await until(() => asked === 2 && parley.state === 'connected', 'registered again');
      await numbers.more(20);
      parley.close();
      assert.ok(eventsOf(log).at(-1)[2] > from);
      const numbersSeen = eventsOf(log).map(([, n]) => n);
      assert.deepEqual(numbersSeen, [...new Set(numbersSeen)].sort((a, b) => a - b), 'once and in order');
      const holes = numbersSeen.filter((n, i) => i && n !== numbersSeen[i - 1] + 1).length;
      assert.ok(holes <= gapsOf(log).length, `${transport}: ${holes} holes, gaps: ${JSON.stringify(gapsOf(log))}`);
    }
    await numbers.stop();
  });

  for (const transport of ['websocket', 'longpoll']) {
    test(`${transport}: short-lived tokens are renewed in place`, async () => {
      const community = ++lastCommunity;
      const numbers = new Numbers(server, community, { everyMs: 20 });
      const from = await numbers.start();
      let tokens = 0;
      const getToken = () => {
        tokens += 1;
        return mint(community, [community], { exp: Math.floor(Date.now() / 1000) + 3 });
      };
      const { parley, log } = listen(community, { getToken, transports: [transport], lastEventId: from });
      parley.connect();
      await sleep(8000);
      await numbers.stop();
      await assertSeen(() => log, numbers, { from });
      assert.ok(tokens >= 3 && tokens <= 12, `${tokens} tokens in 8 s`);
      assert.ok(!statesOf(log).some((state) => state.startsWith('waiting')), `in place: ${statesOf(log)}`);
    });
  }

  for (const everyMs of [20, 5000]) {
    test(`a server that pings often keeps its client, with an event every ${everyMs} ms`, async () => {
      const community = ++lastCommunity;
      const busy = await Server.start({ 'websocket.ping_interval': '500ms' });
      try {
        const numbers = new Numbers(busy, community, { everyMs });
        const from = await numbers.start();
        const { parley, log } = listen(community, { url: busy.url, lastEventId: from });
        parley.connect();
        await sleep(4000);
        await numbers.stop();
        await assertSeen(() => log, numbers, { from });
        assert.equal(lossesOf(log), 0, `${statesOf(log)}`);
        parley.close();
        await sleep(50);
      } finally {
        await busy.stop();
      }
    });
  }

  test('catch-up reads rows and goes on without a hole', async () => {
    const community = ++lastCommunity;
    const numbers = new Numbers(server, community, { everyMs: 5 });
    await numbers.start();
    const { parley } = listen(community);
    const shown = new Set();
    parley.on('event', ({ data }) => shown.add(data.n));
    for (let round = 0; round < 3; round += 1) {
      await numbers.more(10);
      await parley.catchup(async () => {
        const rows = numbers.rows();
        await sleep(50);
        shown.clear();
        for (const n of rows) shown.add(n);
      });
    }
    await numbers.more(10);
    await numbers.stop();
    await until(() => shown.size === numbers.published.length, 'all of them');
    assert.deepEqual([...shown].sort((a, b) => a - b), numbers.published.map(({ n }) => n));
  });

  for (const transport of ['websocket', 'longpoll']) {
    test(`${transport}: connect and catch up at once, from no position: rows and events leave no hole between them`, async () => {
      const community = ++lastCommunity;
      const numbers = new Numbers(server, community, { everyMs: 0 });
      await numbers.start();
      await numbers.more(1);
      const clients = [];
      for (let i = 0; i < 20; i += 1) {
        const { parley } = listen(community, { transports: [transport] });
        const shown = [];
        parley.on('event', ({ data }) => shown.push(data.n));
        parley.connect();
        await parley.catchup(async () => {
          shown.push(...numbers.rows());
          await sleep(20); // they take their time to come
        });
        clients.push({ parley, shown });
      }
      await numbers.more(1);
      await numbers.stop();
      for (const { parley, shown } of clients) {
        await until(() => shown.includes(numbers.last.n), 'the last number');
        assert.deepEqual([...new Set(shown)], numbers.published.map(({ n }) => n));
        parley.close();
      }
    });
  }

  test('for await takes every number, and ends with the client', async () => {
    const community = ++lastCommunity;
    const numbers = new Numbers(server, community, { everyMs: 5 });
    const from = await numbers.start();
    const { parley } = listen(community, { lastEventId: from });
    const log = [];
    const taking = (async () => {
      for await (const { event_id: id, data } of parley.events({ community })) log.push(['event', data.n, id]);
    })();
    parley.connect();
    await numbers.more(50);
    await numbers.stop();
    await assertSeen(() => log, numbers, { from });
    parley.close();
    await taking;
  });
});

describe('the server is killed and started again', { concurrency: true }, () => {
  for (const way of WAYS) {
    test(`${way.transport} ${way.codec}: one gap is told, and all after it is seen`, async () => {
      const community = ++lastCommunity;
      const mortal = await Mortal.start();
      try {
        const numbers = new Numbers(() => mortal.now, community, { everyMs: 10 });
        const from = await numbers.start();
        const { parley, log } = listen(community, { ...optionsOf(way), url: mortal.now.url, lastEventId: from });
        parley.connect();
        await connected(parley);
        await numbers.more(20);
        await mortal.restart(300);
        await connected(parley);
        await until(() => gapsOf(log).length, 'told', 5000);
        await numbers.more(30);
        await numbers.stop();
        await assertSeen(() => log, numbers, { from, gaps: 1 });
        assert.equal(gapsOf(log)[0][1], 'epoch');
        parley.close();
        await sleep(50);
      } finally {
        await mortal.now.stop();
      }
    });
  }

  test('a client whose server goes away for good closes on request', async () => {
    const mortal = await Mortal.start();
    const { parley } = listen(++lastCommunity, { url: mortal.now.url });
    parley.connect();
    await connected(parley);
    mortal.now.process.kill('SIGKILL');
    await mortal.now.exited;
    await until(() => parley.state === 'waiting', 'waiting');
    parley.close();
    assert.equal(parley.state, 'closed');
    await assert.rejects(parley.publish({ type: 'x', data: {} }), { code: 'closed' });
  });
});

test('the package is what an application imports: no handle keeps Node alive after close', async () => {
  const script = `
    import { Parley } from ${JSON.stringify(String(pathToFileURL(path.join(CLIENT, 'src/index.js'))))};
    import { WebSocket } from 'ws';
    const parley = new Parley({ url: ${JSON.stringify(server.url)}, getToken: () => ${JSON.stringify(mint(7, [1]))}, WebSocket });
    parley.on('state', ({ state }) => state === 'connected' && setTimeout(() => parley.close(), 50));
    parley.connect();`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { cwd: HERE, stdio: 'inherit' });
  const timer = setTimeout(() => child.kill('SIGKILL'), 8000);
  assert.deepEqual(await once(child, 'exit'), [0, null]);
  clearTimeout(timer);
});
