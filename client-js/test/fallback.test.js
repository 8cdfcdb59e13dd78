import assert from 'node:assert/strict';
import { test } from 'node:test';
import { aMoment, connected, setup, until } from './helpers.js';
import { createChoice } from '../src/choice.js';

/* Publishes numbered events until told to stop; each client must have seen every one once, in order. */
function publishing(server, everyMs = 5) {
  const ids = [];
  const timer = setInterval(() => ids.push(server.publish().event_id), everyMs);
  return () => (clearInterval(timer), ids);
}

for (const how of ['refuse', 'silent', 'short']) {
  test(`WebSocket that is blocked (${how}): long-poll takes over on the same queue`, async (t) => {
    const { server, open } = await setup(t);
    server.websocket = how;
    const client = open({ timing: { welcomeMs: 60 } });
    await connected(client, 'longpoll');
    assert.ok(server.connections.filter(({ transport }) => transport === 'websocket').length <= 3);
    assert.equal(server.requests.filter((line) => line === 'GET /realtime/health').length, 3);
    assert.equal(server.queues.size, 1);
    const event = server.publish();
    await until(() => client.seen.includes(event.event_id));
  });
}

test('WebSocket that breaks in the middle: nothing is lost or repeated on the way to long-poll and back', async (t) => {
  const { server, open } = await setup(t);
  const client = open({ timing: { probeMs: 150, stableMs: 60 } });
  await connected(client, 'websocket');
  const stop = publishing(server);
  await aMoment(100);
  server.websocket = 'refuse';
  client.cut();
  await connected(client, 'longpoll');
  const { queueId } = client;
  await aMoment(50);
  server.websocket = 'open';
  await connected(client, 'websocket');
  await aMoment(50);
  const ids = stop();
  await until(() => client.lastEventId === ids.at(-1));
  assert.deepEqual(client.seen, ids);
  assert.equal(client.queueId, queueId);
});

test('going back to WebSocket is never seen as a loss', async (t) => {
  const { server, open } = await setup(t);
  server.websocket = 'refuse';
  const client = open({ timing: { probeMs: 100 } });
  await connected(client, 'longpoll');
  const before = client.states.length;
  server.websocket = 'open';
  await connected(client, 'websocket');
  assert.deepEqual(client.states.slice(before), ['connected websocket']);
});

test('a poll that arrives late and takes the queue back does not end the client; a second time is somebody else', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  client.forbid('websocket');
  await connected(client, 'longpoll');
  client.allow('websocket');
  await connected(client, 'websocket');
  const before = client.states.length;
  server.closeSockets(4409, 'replaced');
  await until(() => client.states.length === before + 2);
  assert.deepEqual(client.states.slice(before), ['connecting', 'connected websocket']);
  server.closeSockets(4409, 'replaced');
  await until(() => client.state === 'closed');
});

test('a blocked WebSocket that is tried again does not keep long-poll from delivering afterwards', async (t) => {
  const { server, open } = await setup(t);
  server.websocket = 'silent';
  const client = open({ timing: { probeMs: 60, welcomeMs: 60 } });
  await connected(client, 'longpoll');
  const tries = server.connections.filter(({ transport }) => transport === 'websocket').length;
  await until(() => server.connections.filter(({ transport }) => transport === 'websocket').length > tries);
  for (let n = 1; n <= 5; n += 1) {
    server.publish();
    await until(() => client.seen.length === n);
  }
  assert.equal(client.transport, 'longpoll');
});

test('the tries of a blocked WebSocket grow apart; one that lasts begins anew', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let now = 0;
  const tries = [];
  const choice = createChoice(['websocket', 'longpoll'], { probeMs: 50, probeMaxMs: 120 }, () => 1, () => {
    assert.equal(choice.best, 'websocket');
    tries.push(now);
    choice.failed();
    assert.equal(choice.best, 'longpoll');
  });
  const pass = (ms) => {
    for (const end = now + ms; now < end; t.mock.timers.tick(1)) now += 1;
  };
  for (let failures = 0; failures < 3; failures += 1) {
    assert.equal(choice.best, 'websocket');
    choice.failed();
  }
  pass(400);
  assert.deepEqual(tries, [50, 150, 270, 390]);
  choice.proven();
  choice.block();
  pass(60);
  assert.deepEqual(tries.slice(4), [450]);
});

test('a server that is away does not make anybody fall back', async (t) => {
  const { server, open } = await setup(t);
  const asked = new Set();
  const client = open({ fetch: (url, options) => (asked.add(new URL(url).pathname), fetch(url, options)) });
  await connected(client, 'websocket');
  await server.stop();
  await aMoment(400);
  assert.deepEqual([...asked], ['/realtime/health']);
  assert.equal(client.transport, undefined);
  await server.listen();
  await connected(client, 'websocket');
  assert.ok(!client.states.some((state) => state.includes('longpoll')));
});

test('long-poll that is refused as well shows that it was not WebSocket', async (t) => {
  const { server, open } = await setup(t);
  server.websocket = 'refuse';
  server.script('/realtime/register', 503, { code: 'draining', message: 'restarting' }, { 'Retry-After': '0' });
  const client = open();
  await until(() => server.requests.includes('POST /realtime/register'));
  server.websocket = 'open';
  await connected(client, 'websocket');
});

test('forbidding and allowing WebSocket moves the client there and back', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  await connected(client, 'websocket');
  const { queueId } = client;
  const stop = publishing(server);
  client.forbid('websocket');
  await connected(client, 'longpoll');
  await aMoment();
  client.allow('websocket');
  await connected(client, 'websocket');
  await aMoment();
  const ids = stop();
  await until(() => client.lastEventId === ids.at(-1));
  assert.deepEqual(client.seen, ids);
  assert.equal(client.queueId, queueId);
});

test('no transport left is said, not tried for ever', async (t) => {
  const { open } = await setup(t);
  const client = open({ transports: ['websocket'] });
  await connected(client);
  client.forbid('websocket');
  assert.equal(client.state, 'closed');
  assert.deepEqual(client.errors, ['no_transport']);
});

test('the order of the server counts: a welcome, a poll or a goaway moves the client', async (t) => {
  const { server, open } = await setup(t);
  server.transports = ['longpoll', 'websocket'];
  const client = open();
  await connected(client, 'longpoll');
  server.transports = ['websocket', 'longpoll'];
  server.publish();
  await connected(client, 'websocket');
  const opened = server.connections.length;
  server.tell({ op: 'goaway', reason: 'transport', reconnect_after_ms: 10, transports: ['longpoll'] });
  await until(() => server.connections.length > opened);
  assert.equal(server.connections[opened].transport, 'longpoll', 'even before the next welcome says so');
  server.transports = ['longpoll'];
  server.publish();
  await connected(client, 'longpoll');
  await until(() => client.seen.length === 2);
  assert.equal(new Set(client.seen).size, 2);
});

test('the application may rule a transport out', async (t) => {
  const { server, open } = await setup(t);
  const client = open({ transports: ['longpoll'] });
  await connected(client, 'longpoll');
  server.publish();
  await until(() => client.seen.length === 1);
  await aMoment();
  assert.equal(client.transport, 'longpoll');
  assert.ok(server.connections.every(({ transport }) => transport === 'longpoll'));
});

test('without a WebSocket class long-poll is used at once', async (t) => {
  const { open } = await setup(t);
  const had = globalThis.WebSocket;
  globalThis.WebSocket = undefined;
  t.after(() => (globalThis.WebSocket = had));
  const client = open({ WebSocket: undefined });
  await connected(client, 'longpoll');
  assert.ok(!client.states.includes('waiting'));
});
