/* What stands between: proxies that cut what is idle, and those that carry nothing. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { aMoment, connected, setup, until } from './helpers.js';
import { createRhythm } from '../src/rhythm.js';

const rhythm = () => createRhythm({ latencyMs: 30_000, holdS: 50, idleMs: 1000 });

test('two links that died after the same silence make the next ones shorter', () => {
  const learned = rhythm();
  learned.died('websocket', 10_050);
  learned.died('longpoll', 30_020);
  assert.deepEqual([learned.pingMs, learned.holdS], [30_000, 50]);
  learned.died('websocket', 10_010);
  learned.died('longpoll', 30_000);
  assert.deepEqual([learned.pingMs, learned.holdS], [7507.5, 22]);
});

/* Ages as real proxies cut at: `idleMs` and up to `lateMs` more, evenly; numbers by a generator of their own. */
function* agesOf(idleMs, lateMs, seed) {
  for (let state = seed; ; state = (state * 48_271) % 2_147_483_647) yield idleMs + (state / 2_147_483_647) * lateMs;
}

for (const [what, idleMs, lateMs] of [
  ["nginx's and HAProxy's, that are on time", 60_000, 50],
  ['a short one, seen by a busy page', 4000, 900],
  ['ones that look at their connections every few seconds', 40_000, 6000],
]) {
  for (const transport of ['websocket', 'longpoll']) {
    test(`${transport}: the age of proxies is found out after two cuts, though no two are the same: ${what}`, () => {
      for (let seed = 1; seed <= 200; seed += 1) {
        const learned = rhythm();
        const ages = agesOf(idleMs, lateMs, seed * 7919);
        for (let cut = 0; cut < 2; cut += 1) learned.died(transport, ages.next().value);
        const restMs = transport === 'websocket' ? learned.pingMs : learned.holdS * 1000;
        assert.ok(restMs < idleMs && restMs >= idleMs / 2, `seed ${seed}: ${restMs}`);
      }
    });
  }
}

test('a network that broke in between puts that off by one cut; a link cut within a moment by none', () => {
  const learned = rhythm();
  for (const idleMs of [60_010, 17_000, 60_300]) learned.died('longpoll', idleMs);
  assert.equal(learned.holdS, 50);
  for (const idleMs of [200, 60_050]) learned.died('longpoll', idleMs);
  assert.equal(learned.holdS, 45);
});

test('deaths at different ages, or within a moment, teach nothing', () => {
  const learned = rhythm();
  for (const idleMs of [10_000, 20_000, 5000, 300, 300, undefined, undefined]) learned.died('websocket', idleMs);
  assert.equal(learned.pingMs, 30_000);
});

test('what was learned is never unlearned by a longer one, but by another network', () => {
  const learned = rhythm();
  for (const idleMs of [10_000, 10_000, 25_000, 25_000, 2000, 2000]) learned.died('longpoll', idleMs);
  assert.equal(learned.holdS, 1);
  learned.forget();
  assert.deepEqual([learned.pingMs, learned.holdS], [30_000, 50]);
});

test('a proxy that cuts idle sockets is met twice, then never again', async (t) => {
  const { server, open } = await setup(t);
  server.idleCutMs = 1200;
  const client = open({ transports: ['websocket'] });
  const waits = () => client.states.filter((state) => state === 'waiting').length;
  await until(() => waits() === 2);
  await connected(client);
  const { pings } = server;
  await aMoment(2500);
  assert.equal(waits(), 2);
  assert.ok(server.pings > pings);
});

test('a proxy that cuts long polls is met twice, then asked for less', async (t) => {
  const { server, open } = await setup(t);
  server.idleCutMs = 1500;
  const client = open({ transports: ['longpoll'] });
  const waits = () => client.states.filter((state) => state === 'waiting').length;
  await until(() => waits() === 2, 5000);
  await connected(client);
  await aMoment(1800);
  assert.equal(waits(), 2);
  assert.equal(server.connections.at(-1).hold, 1);
});

test("a gateway's timeout counts like a cut", async (t) => {
  const { server, open } = await setup(t);
  const client = open({
    transports: ['longpoll'],
    timing: { holdS: 30, backoffMs: 1, backoffMaxMs: 1 },
    fetch: async (url, options) => {
      if (!url.includes('timeout=30')) return fetch(url, options);
      await aMoment(400);
      return new Response('<html>504</html>', { status: 504 });
    },
  });
  await until(() => server.connections.at(-1)?.hold === 1);
  assert.equal(client.states.filter((state) => state === 'waiting').length, 2);
});

test('a proxy that lets the welcome through and nothing after it: long-poll takes over', async (t) => {
  const { server, open } = await setup(t);
  server.websocket = 'mute';
  const client = open({ timing: { stableMs: 30, welcomeMs: 60 } });
  await connected(client, 'longpoll');
  assert.equal(server.connections.filter(({ transport }) => transport === 'websocket').length, 3);
  const event = server.publish();
  await until(() => client.seen.includes(event.event_id));
});

test('a slow network is not taken for a dead one: the server that answers late is not left', async (t) => {
  const { server, open } = await setup(t);
  server.pingMs = 40;
  const client = open({ transports: ['websocket'], timing: { wakeMs: 200 } });
  await connected(client);
  await aMoment(500);
  assert.deepEqual(client.states, ['connecting', 'connected websocket']);
  assert.ok(server.pings >= 2);
});

for (const transport of ['websocket', 'longpoll']) {
  test(`${transport}: the way there and back is measured, and told`, async (t) => {
    const { open } = await setup(t);
    const client = open({ transports: [transport] });
    assert.equal(client.latency, undefined);
    const told = [];
    client.on('latency', (ms) => told.push(ms));
    await until(() => client.latency !== undefined);
    assert.ok(client.latency >= 0 && client.latency < 500, `${client.latency}`);
    assert.equal(told.at(-1), client.latency);
  });
}

test('over WebSocket it is measured again and again', async (t) => {
  const { server, open } = await setup(t);
  const client = open({ timing: { latencyMs: 20 } });
  await connected(client);
  await until(() => server.pings >= 4);
});
