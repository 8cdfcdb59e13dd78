import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import { aMoment, connected, listening, setup, until } from './helpers.js';

for (const transport of ['websocket', 'longpoll']) {
  const over = (name, body) =>
    test(`${transport}: ${name}`, async (t) => {
      const { server, open } = await setup(t);
      await body({ server, open: (options) => open({ transports: [transport], ...options }) });
    });

  over('at first: the cursor, then the rows, then the events after it', async ({ server, open }) => {
    const client = open({ begin: false });
    const before = server.publish();
    let between;
    const result = await client.catchup(async ({ cursor }) => {
      assert.equal(cursor, before.event_id);
      between = server.publish();
      await aMoment(20);
      return 'rows';
    });
    assert.equal(result, 'rows');
    await until(() => client.seen.length === 1);
    assert.deepEqual(client.seen, [between.event_id]);
    const after = server.publish();
    await until(() => client.seen.length === 2);
    assert.equal(client.seen[1], after.event_id);
  });

  over('in the middle: what the rows hold is not told again, what came since is held back until they are there', async ({ server, open }) => {
    const client = open();
    await listening(server, client);
    const early = server.publish();
    await until(() => client.seen.length === 1);
    let since;
    await client.catchup(async () => {
      since = [server.publish().event_id, server.publish().event_id];
      await aMoment(80);
      assert.deepEqual(client.seen, [early.event_id]);
      assert.ok(client.lastEventId <= early.event_id);
    });
    assert.deepEqual(client.seen, [early.event_id, ...since]);
    assert.equal(client.lastEventId, since[1]);
  });

  over('what is held back does not grow without end: the server is told to wait', async ({ server, open }) => {
    const client = open({ maxPending: 10 });
    await listening(server, client);
    const ids = [];
    await client.catchup(async () => {
      for (let i = 0; i < 20; i += 1) ids.push(server.publish().event_id);
      await until(() => !server.reaches(client.queueId));
      await aMoment(20);
      for (let i = 0; i < 20; i += 1) ids.push(server.publish().event_id);
      await aMoment(40);
      assert.ok(!server.reaches(client.queueId));
    });
    await until(() => client.seen.length === ids.length);
    assert.deepEqual(client.seen, ids);
  });

  over('in a gap handler it ends the gap', async ({ server, open }) => {
    const client = open();
    await listening(server, client);
    const shown = [];
    client.on('gap', () => client.catchup(() => aMoment(40).then(() => shown.push('rows'))));
    client.on('event', () => shown.push('event'));
    server.tell({ op: 'catchup_required', catchup_required: true, reason: 'trimmed', last_event_id: 1000 });
    await until(() => server.requests.includes('GET /realtime/cursor'));
    await aMoment(10);
    server.publish();
    await until(() => shown.length === 2);
    assert.deepEqual(shown, ['rows', 'event']);
  });
}

/* A network that carries what opens a link only when it is told to. */
function lateNetwork() {
  let arrive;
  const opened = new Promise((resolve) => (arrive = resolve));
  class LateSocket extends WebSocket {
    async send(message) {
      await opened;
      super.send(message);
    }
  }
  const lateFetch = async (input, init) => {
    if (input.includes('/register')) await opened;
    return fetch(input, init);
  };
  return { WebSocket: LateSocket, fetch: lateFetch, arrive };
}

for (const transport of ['websocket', 'longpoll']) {
  for (const order of ['connect and then catch up', 'catch up and then connect']) {
    test(`${transport}: ${order}: what was published between the cursor and the welcome is delivered`, async (t) => {
      const { server, open } = await setup(t);
      const { arrive, ...network } = lateNetwork();
      const client = open({ begin: false, transports: [transport], ...network });
      let event;
      const read = () => {
        assert.equal(client.transport, undefined);
        event = server.publish();
        arrive();
      };
      if (order.startsWith('connect')) client.connect();
      const reading = client.catchup(read);
      client.connect();
      await reading;
      await connected(client);
      const after = server.publish();
      await until(() => client.seen.includes(after.event_id));
      assert.deepEqual([client.seen, client.errors, client.gaps], [[event.event_id, after.event_id], [], []]);
      assert.ok(!client.states.includes('waiting'), 'no link was lost');
      assert.deepEqual([client.node, client.communities], ['fake', [42]]);
      assert.equal(server.queues.size, 1);
    });
  }
}

test('events that are on their way when the cursor is taken are in the rows', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  await connected(client);
  for (const time of ['at first', 'again']) {
    const { event_id: id } = server.publish();
    let cursor;
    await client.catchup((snapshot) => (({ cursor } = snapshot), aMoment(20)));
    assert.equal(cursor, id);
    await aMoment();
    assert.deepEqual([client.seen, client.lastEventId], [[], id], time);
  }
});

test('rows that could not be read lose nothing', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  await connected(client);
  let event;
  const reading = client.catchup(async () => {
    event = server.publish();
    await aMoment(40);
    throw new Error('no rows');
  });
  await assert.rejects(reading, /no rows/);
  await until(() => client.seen.length === 1);
  assert.equal(client.seen[0], event.event_id);
});

test('a gap that comes while rows are read is told when they are there', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  await connected(client);
  await client.catchup(async () => {
    server.tell({ op: 'catchup_required', catchup_required: true, reason: 'trimmed', last_event_id: 1000 });
    await aMoment(40);
    assert.deepEqual(client.gaps, []);
  });
  assert.deepEqual(client.gaps.map(({ reason }) => reason), ['trimmed']);
});

test('two that read at once: what either may have missed is delivered', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  await connected(client);
  const first = client.catchup(() => aMoment(60));
  await until(() => server.requests.length === 1);
  await aMoment(20);
  const between = server.publish();
  const second = client.catchup(() => aMoment(120));
  await first;
  assert.deepEqual(client.seen, []);
  await second;
  assert.deepEqual(client.seen, [between.event_id]);
});

test('a server that refuses the cursor is heard; the client goes on', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  await connected(client);
  server.script('/realtime/cursor', 503, { code: 'overloaded', message: 'later' }, { 'Retry-After': '3' });
  await assert.rejects(client.catchup(() => assert.fail('read')), { code: 'overloaded', retryAfterMs: 3000 });
  const event = server.publish();
  await until(() => client.seen.length === 1);
  assert.equal(client.seen[0], event.event_id);
});

test('an aborted catch-up loses nothing either, not even what its cursor covers', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  await connected(client);
  const control = new AbortController();
  const ids = [];
  const reading = client.catchup(async () => {
    ids.push(server.publish().event_id);
    await aMoment(40);
    control.abort(new Error('left the page'));
  }, control);
  ids.push(server.publish().event_id);
  await assert.rejects(reading, /left the page/);
  await until(() => client.seen.length === 2);
  assert.deepEqual(client.seen, ids);
});
