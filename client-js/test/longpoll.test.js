import assert from 'node:assert/strict';
import { test } from 'node:test';
import { aMoment, connected, listening, setup, until } from './helpers.js';

async function longpoll(t, options) {
  const { server, open } = await setup(t);
  return { server, open, start: () => open({ transports: ['longpoll'], ...options }) };
}

test('a poll asks to be held for 50 seconds and says the position', async (t) => {
  const { server, start } = await longpoll(t);
  const client = start();
  await until(() => server.connections.length === 1);
  assert.equal(server.connections[0].url, '/realtime/poll?queue_id=q1&last_event_id=1000&timeout=50');
  const { event_id: id } = server.publish();
  await until(() => server.connections.length === 2);
  assert.equal(server.connections[1].url, `/realtime/poll?queue_id=q1&last_event_id=${id}&timeout=50`);
  assert.equal(client.state, 'connected');
});

test('a link to a known queue is proven by a poll that is not held', async (t) => {
  const { server, start } = await longpoll(t);
  const client = start();
  await listening(server, client);
  client.cut();
  await until(() => server.connections.length === 3);
  assert.deepEqual(server.connections.map(({ hold }) => hold), [50, 0, 50]);
});

test('410 means WebSocket from now on', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  client.forbid('websocket');
  await connected(client, 'longpoll');
  await listening(server, client);
  server.script('/realtime/poll', 410, { code: 'transport_gone', message: 'long-polling has ended here' });
  server.publish();
  await until(() => client.state === 'closed'); // this one may not use WebSocket
  assert.deepEqual(client.errors, ['transport_gone']);

  const other = open({ transports: ['longpoll', 'websocket'] });
  server.script('/realtime/poll', 410, { code: 'transport_gone', message: 'long-polling has ended here' });
  await connected(other, 'websocket');
});

for (const [status, code] of [[429, 'rate_limited'], [503, 'overloaded']]) {
  test(`${status} is followed by the wait that Retry-After names`, async (t) => {
    const { server, start } = await longpoll(t);
    server.script('/realtime/register', status, { code, message: 'later' }, { 'Retry-After': '1' });
    const waits = [];
    const client = start();
    client.on('state', ({ retryInMs }) => retryInMs && waits.push(retryInMs));
    await until(() => client.states.includes('waiting'));
    assert.ok(waits[0] >= 1000, `${waits[0]}`);
    await connected(client);
  });
}

test('a lost answer is asked for again', async (t) => {
  const { server, start } = await longpoll(t);
  const client = start();
  await connected(client);
  server.script('/realtime/poll', 0);
  const { event_id: first } = server.publish();
  const { event_id: second } = server.publish();
  await until(() => client.seen.length === 2);
  assert.deepEqual(client.seen, [first, second]);
});

test('an answer that is not JSON is no answer', async (t) => {
  const pages = [new Response('<html>sign in to this network</html>')];
  const { start } = await longpoll(t, { fetch: async (...args) => pages.shift() ?? fetch(...args) });
  const client = start();
  await until(() => client.states.includes('waiting'));
  await connected(client);
});

test('polls answered at once with nothing are not asked in a tight loop', async (t) => {
  const { server, start } = await longpoll(t, { timing: { holdS: 0.001, idleMs: 40 } });
  const client = start();
  await connected(client);
  await aMoment(200);
  const polls = server.requests.filter((line) => line === 'GET /realtime/poll').length;
  assert.ok(polls <= 7, `${polls} polls`);
});

test('messages are sent together and in order', async (t) => {
  const { server, start } = await longpoll(t);
  const client = start();
  await connected(client);
  await Promise.all([1, 2, 3].map((n) => client.publish({ type: 'x', data: { n } })));
  assert.deepEqual(server.messages.map(({ data }) => data.n), [1, 2, 3]);
  assert.equal(server.requests.filter((line) => line === 'POST /realtime/send').length, 1);
});

test('messages that are refused fail alone; the link goes on', async (t) => {
  const { server, start } = await longpoll(t);
  const client = start();
  await connected(client);
  server.script('/realtime/send', 429, { code: 'rate_limited', message: 'too fast' }, { 'Retry-After': '2' });
  await assert.rejects(client.publish({ type: 'x', data: {} }), { code: 'rate_limited', retryAfterMs: 2000 });
  assert.equal(client.state, 'connected');
  assert.ok((await client.publish({ type: 'x', data: {} })).event_id);
});

test('the outcome of a message whose answer was lost is unknown', async (t) => {
  const { server, start } = await longpoll(t);
  const client = start();
  await connected(client);
  server.script('/realtime/send', 0);
  await assert.rejects(client.publish({ type: 'x', data: {} }), { code: 'connection_lost' });
  await connected(client);
});
