/* Sleeping and waking: what the page says, what the clock says, and what is made of it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fakePage } from './fake_page.js';
import { aMoment, connected, dead, listening, setup, until } from './helpers.js';

for (const transport of ['websocket', 'longpoll']) {
  const over = (name, body) =>
    test(`${transport}: ${name}`, async (t) => {
      const { server, open } = await setup(t);
      const page = fakePage();
      await body({ server, page, open: (options) => open({ transports: [transport], page, ...options }) });
    });

  /* A link is looked at when it has been silent for so long; one that is dead is given up after as long again. */
  const wakeMs = 60;
  const silence = (ms = wakeMs) => aMoment(ms + 20);

  for (const [type, on] of [['visibilitychange', 'document'], ['resume', 'document'], ['pageshow'], ['online'], ['offline']]) {
    over(`a link that died unnoticed is found out on ${type}`, async ({ server, page, open }) => {
      const client = open({ timing: { wakeMs } });
      await listening(server, client);
      await silence();
      const givenUp = dead(server, client);
      page.say(type, page[on]);
      await givenUp;
      const missed = server.publish();
      await until(() => client.seen.length === 1);
      assert.deepEqual(client.seen, [missed.event_id]);
    });
  }

  over('a link that lives is kept on waking', async ({ server, page, open }) => {
    const longMs = 400;
    const client = open({ timing: { wakeMs: longMs } });
    await listening(server, client);
    await silence(longMs);
    const before = server.connections.length;
    page.say('visibilitychange', page.document);
    page.say('online');
    client.wake();
    await silence(longMs);
    assert.deepEqual(client.states, ['connecting', `connected ${transport}`]);
    assert.ok(server.connections.length - before <= (transport === 'longpoll' ? 2 : 0));
    server.publish();
    await until(() => client.seen.length === 1);
  });

  over('hiding the page asks nothing', async ({ server, page, open }) => {
    const client = open({ timing: { wakeMs } });
    await listening(server, client);
    await silence();
    const asked = server.pings + server.connections.length;
    page.document.visibilityState = 'hidden';
    page.say('visibilitychange', page.document);
    await aMoment();
    assert.equal(server.pings + server.connections.length, asked);
  });

  over('a clock that jumped has the link looked at', async ({ server, open }) => {
    const client = open({ timing: { tickMs: 20, wakeMs } });
    await listening(server, client);
    const givenUp = dead(server, client);
    const { now } = Date;
    const jumpMs = 300_000;
    Date.now = () => now() + jumpMs;
    try {
      await givenUp;
      await connected(client);
    } finally {
      Date.now = now;
    }
  });

  over('a machine that slept and finds its link alive goes on with it', async ({ server, open }) => {
    server.pingMs = 1000;
    const client = open({ timing: { tickMs: 20 } });
    await listening(server, client);
    const { now } = Date;
    Date.now = () => now() + 300_000;
    try {
      await aMoment(200);
      assert.deepEqual(client.states, ['connecting', `connected ${transport}`]);
    } finally {
      Date.now = now;
    }
  });

  over('a page that goes lets go of its link and keeps the queue; coming back it misses nothing', async ({ server, page, open }) => {
    const client = open();
    await listening(server, client);
    const { queueId } = client;
    page.say('pagehide');
    assert.deepEqual([client.state, client.transport], ['waiting', undefined]);
    await until(() => !server.reaches(queueId));
    const missed = server.publish();
    await aMoment();
    assert.equal(client.state, 'waiting');
    page.say('pageshow');
    await until(() => client.seen.length === 1);
    assert.deepEqual([client.seen[0], client.queueId], [missed.event_id, queueId]);
  });
}

test('while waiting, waking tries at once; the wait that the server named is kept', async (t) => {
  const { server, open } = await setup(t);
  const client = open({ page: fakePage(), random: () => 1, timing: { backoffMs: 60_000, backoffMaxMs: 60_000 } });
  await connected(client);
  server.closeSockets(1011, '');
  await until(() => client.state === 'waiting');
  client.wake();
  await connected(client);

  server.closeSockets(4429, 'rate_limited;retry_after_ms=250');
  await until(() => client.state === 'waiting');
  client.wake();
  await aMoment(120);
  assert.equal(client.state, 'waiting');
  await connected(client);
});

test('offline, nothing is tried in a hurry; online, at once and as if nothing had been', async (t) => {
  const { server, open } = await setup(t);
  const page = fakePage();
  const waits = [];
  const client = open({ page, timing: { backoffMaxMs: 60_000 } });
  client.on('state', ({ retryInMs }) => retryInMs && waits.push(retryInMs));
  await connected(client);
  page.navigator.onLine = false;
  server.closeSockets(1011, '');
  await until(() => client.state === 'waiting');
  assert.equal(waits.at(-1), 60_000);
  page.navigator.onLine = true;
  page.say('online');
  await connected(client);
});

test('links that are cut young wait longer and longer; after one that lasted it begins anew', async (t) => {
  const { open } = await setup(t);
  const waits = [];
  const client = open({ transports: ['longpoll'], random: () => 1, timing: { backoffMaxMs: 80, stableMs: 150 } });
  client.on('state', ({ retryInMs }) => retryInMs && waits.push(retryInMs));
  for (let cut = 0; cut < 4; cut += 1) {
    await connected(client);
    client.cut();
  }
  await connected(client);
  assert.deepEqual(waits, [10, 20, 40, 80]);
  await aMoment(400);
  client.cut();
  assert.deepEqual(waits.slice(4), [10]);
});

test('what was learned of a proxy is forgotten with the network it was on', async (t) => {
  const { server, open } = await setup(t);
  server.idleCutMs = 1200;
  const page = fakePage();
  const client = open({ transports: ['longpoll'], page, timing: { stableMs: 10 } });
  await until(() => server.connections.at(-1)?.hold === 1, 6000);
  server.idleCutMs = 0;
  page.say('online');
  await until(() => server.connections.at(-1).hold === 50, 6000);
  assert.equal(client.state, 'connected');
});

test('a closed client hears nothing of the page any more', async (t) => {
  const { server, open } = await setup(t);
  const page = fakePage();
  const client = open({ page });
  await connected(client);
  client.close();
  page.say('pagehide');
  page.say('pageshow');
  await aMoment();
  assert.equal(client.state, 'closed');
  assert.equal(server.connections.length, 1);
});
