import assert from 'node:assert/strict';
import { test } from 'node:test';
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

test('events that are on their way when the cursor is taken are in the rows', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  await connected(client);
  const { event_id: id } = server.publish();
  let cursor;
  await client.catchup((snapshot) => ({ cursor } = snapshot));
  assert.equal(cursor, id);
  await aMoment();
  assert.deepEqual([client.seen, client.lastEventId], [[], id]);
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

test('an aborted catch-up loses nothing either', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  await connected(client);
  const control = new AbortController();
  const reading = client.catchup(async () => {
    server.publish();
    await aMoment(40);
    control.abort(new Error('left the page'));
  }, control);
  await assert.rejects(reading, /left the page/);
  await until(() => client.seen.length === 1);
});
