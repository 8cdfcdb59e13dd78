import assert from 'node:assert/strict';
import { test } from 'node:test';
import { aMoment, connected, dead, setup, until } from './helpers.js';

test('the token travels in the first message, never in the URL', async (t) => {
  const { server, open } = await setup(t);
  const client = open({ getToken: () => 'a secret' });
  await connected(client, 'websocket');
  assert.deepEqual(server.connections[0].hello, { op: 'hello', token: 'a secret' });
  assert.equal(server.connections[0].url, '/realtime/ws');
  client.cut();
  await until(() => server.connections[1]?.hello);
  assert.deepEqual(server.connections[1].hello, { op: 'hello', token: 'a secret', queue_id: 'q1', last_event_id: 1000 });
});

test('pings are answered and move the position', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  await connected(client);
  server.tell({ op: 'ping', last_event_id: 7000 });
  await until(() => server.messages.some(({ op }) => op === 'pong'));
  assert.equal(client.lastEventId, 7000);
});

test('events are acknowledged together after a while', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  await connected(client);
  server.publish();
  const last = server.publish();
  await until(() => server.messages.length === 1);
  await aMoment();
  assert.deepEqual(server.messages, [{ op: 'ack', event_id: last.event_id }]);
});

test('a socket silent for two ping intervals is given up', async (t) => {
  const { server, open } = await setup(t);
  server.pingMs = 30;
  const client = open({ transports: ['websocket'], timing: { wakeMs: 60 } });
  await connected(client);
  await dead(server, client);
  await connected(client);
  assert.equal(client.queueId, 'q1');
});

test('each close code leads to what its row says', async (t) => {
  const { server, open } = await setup(t);
  for (const [code, reason, ends] of [
    [4403, 'disconnected', 'disconnected'],
    [4409, 'replaced', 'replaced'],
    [4499, '', 'closed_4499'],
  ]) {
    const client = open();
    await connected(client);
    server.closeSockets(code, reason);
    await until(() => client.state === 'closed');
    assert.deepEqual(client.errors, [ends]);
  }
  for (const code of [1001, 1011, 1012, 1013, 4408, 4429]) {
    const client = open();
    await connected(client);
    server.closeSockets(code, '');
    await until(() => client.states.includes('waiting'));
    await connected(client, 'websocket');
    assert.deepEqual(client.errors, []);
    client.close();
  }
});

test('a bug is reported, tried once more, and then is the end', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  await connected(client);
  server.closeSockets(4400, 'bad_message');
  await until(() => client.states.includes('waiting'));
  assert.deepEqual(client.errors, ['bad_message']);
  await connected(client);
  server.closeSockets(4400, 'bad_message');
  await until(() => client.state === 'closed');
});

test('the wait that a close reason names is kept', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  await connected(client);
  const waits = [];
  client.on('state', ({ retryInMs }) => retryInMs !== undefined && waits.push(retryInMs));
  server.closeSockets(4429, 'rate_limited;retry_after_ms=150');
  await until(() => waits.length);
  assert.ok(waits[0] >= 150, `${waits[0]}`);
  assert.equal(server.connections.length, 1);
  await connected(client);
});

test('a reply to nothing in particular is an error of its own', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  await connected(client);
  server.tell({ op: 'reply', error: { code: 'unknown_op', message: 'no such op' } });
  server.tell({ op: 'from a later version' });
  await until(() => client.errors.length === 1);
  assert.deepEqual(client.errors, ['unknown_op']);
});

test('what was published on a link that died is rejected as unknown', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  await connected(client);
  const outcome = assert.rejects(client.publish({ type: 'x', data: {} }), { code: 'connection_lost' });
  client.cut();
  await outcome;
  await connected(client);
  assert.ok(server.messages.filter(({ op }) => op === 'publish').length <= 1);
});

test('what was published on a link that the client has let go of is rejected as unknown', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  await connected(client);
  server.deaf = true;
  const outcome = assert.rejects(client.publish({ type: 'x', data: {} }), { code: 'connection_lost' });
  client.forbid('websocket');
  await outcome;
});

test('a server that cannot be reached at first is tried again', async (t) => {
  const { server, open } = await setup(t);
  await server.stop();
  const client = open();
  await until(() => client.states.includes('waiting'));
  await server.listen();
  await connected(client, 'websocket');
});
