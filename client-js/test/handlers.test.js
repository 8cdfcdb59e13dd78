/* How the application is told: handlers that throw, that are slow, that are undone; signals; iteration. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { aMoment, connected, listening, setup, until } from './helpers.js';

test('an async handler never overlaps itself and keeps the order; the others do not wait', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  const log = [];
  let running = 0;
  client.on('event', async ({ data }) => {
    assert.equal(running++, 0);
    await aMoment(data.n % 2 ? 20 : 1);
    running -= 1;
    log.push(data.n);
  });
  await connected(client);
  for (const n of [1, 2, 3, 4, 5]) server.publish({ n });
  await until(() => client.seen.length === 5);
  assert.ok(log.length < 5);
  await until(() => log.length === 5);
  assert.deepEqual(log, [1, 2, 3, 4, 5]);
  assert.deepEqual(client.errors, []);
});

test('a handler that rejects is reported and gets the next event', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  const log = [];
  client.on('event', async ({ data }) => {
    log.push(data.n);
    throw new Error('broken');
  });
  await connected(client);
  server.publish({ n: 1 });
  server.publish({ n: 2 });
  await until(() => client.errors.length === 2);
  assert.deepEqual([log, client.errors], [[1, 2], ['handler', 'handler']]);
});

test('what an error handler throws goes to the console, not round in circles', async (t) => {
  const { server, open } = await setup(t);
  const said = t.mock.method(console, 'error', () => {});
  const client = open();
  client.on('error', () => {
    throw new Error('broken too');
  });
  await connected(client);
  server.tell({ op: 'reply', error: { code: 'unknown_op' } });
  await until(() => said.mock.callCount() === 1);
});

test('the position is that of the slowest handler', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  const gates = [];
  client.on('event', () => new Promise((resolve) => gates.push(resolve)));
  await connected(client);
  const ids = [1000, server.publish().event_id, server.publish().event_id];
  await until(() => client.seen.length === 2);
  assert.equal(client.lastEventId, ids[0]);
  gates[0]();
  await until(() => gates.length === 2);
  assert.equal(client.lastEventId, ids[1]);
  gates[1]();
  await until(() => client.lastEventId === ids[2]);
});

for (const transport of ['websocket', 'longpoll']) {
  test(`${transport}: when too much waits for handlers the server is told to wait, and nothing is lost`, async (t) => {
    const { server, open } = await setup(t);
    const client = open({ transports: [transport], maxPending: 4 });
    const log = [];
    const gates = [];
    client.on('event', ({ data }) => new Promise((resolve) => gates.push(() => (log.push(data.n), resolve()))));
    await listening(server, client);
    for (let n = 0; n < 8; n += 1) server.publish({ n });
    await until(() => client.seen.length >= 6);
    await aMoment();
    const taken = client.seen.length;
    for (let n = 8; n < 40; n += 1) server.publish({ n });
    await aMoment(100);
    assert.equal(client.seen.length, taken);
    assert.equal(client.state, transport === 'websocket' ? 'waiting' : 'connected');
    await until(() => (gates.shift()?.(), log.length === 40));
    assert.deepEqual(log, [...Array(40).keys()]);
    assert.equal(client.seen.length, 40);
  });
}

test('signals undo: on, subscribe, publish, events, the client itself', async (t) => {
  const { server, open } = await setup(t);
  const life = new AbortController();
  const client = open({ signal: life.signal });
  await connected(client);
  const control = new AbortController();
  const { signal } = control;
  let calls = 0;
  client.on('event', () => calls++, { signal });
  client.subscribe({ community: 42, article: 7 }, () => calls++, { signal });
  await until(() => server.messages.some(({ op }) => op === 'subscribe'));
  await aMoment(20);
  const iterated = (async () => {
    for await (const event of client.events({ signal })) calls += event.event_id * 0 + 1;
    return 'ended';
  })();
  await aMoment(20);
  server.publish({ article_id: 7 });
  await until(() => calls === 3);

  const published = new AbortController();
  server.deaf = true;
  const refused = assert.rejects(client.publish({ type: 'x', data: {} }, published), { message: 'too late' });
  published.abort(new Error('too late'));
  await refused;
  await until(() => server.unheard === 1);
  server.deaf = false;

  control.abort(new Error('enough'));
  assert.equal(await iterated, 'ended');
  await until(() => server.messages.some(({ op }) => op === 'unsubscribe'));
  server.publish({ article_id: 7 });
  await aMoment();
  assert.equal(calls, 3);

  /* Aborted before: nothing begins. */
  client.on('event', () => calls++, { signal });
  client.subscribe({ community: 42 }, () => calls++, { signal });
  await assert.rejects(client.publish({ type: 'x', data: {} }, { signal }), { message: 'enough' });
  await assert.rejects(client.catchup(() => {}, { signal }), { message: 'enough' });
  for await (const event of client.events({ signal })) assert.fail(event);
  await aMoment();
  assert.equal(server.messages.filter(({ op }) => op === 'subscribe').length, 1);
  assert.ok(!server.messages.some(({ op }) => op === 'publish'));

  life.abort();
  assert.equal(client.state, 'closed');
});

test('events are iterated in order; leaving the loop undoes it', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  await connected(client);
  const got = [];
  const loop = (async () => {
    for await (const event of client) {
      got.push(event.event_id);
      await aMoment(5);
      if (got.length === 3) break;
    }
  })();
  await aMoment(5);
  const ids = [1, 2, 3, 4].map(() => server.publish().event_id);
  await loop;
  assert.deepEqual(got, ids.slice(0, 3));
});

test('an iteration over a topic subscribes to it and takes that back', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  await connected(client);
  const events = client.events({ community: 42, article: 7 });
  const first = events.next();
  await until(() => server.messages.some(({ op }) => op === 'subscribe'));
  await aMoment(20);
  server.publish({ article_id: 8 });
  server.publish({ article_id: 7 });
  assert.equal((await first).value.data.article_id, 7);
  await events.return();
  await until(() => server.messages.some(({ op }) => op === 'unsubscribe'));
});

test('an iteration that is too slow ends with an error instead of growing', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  await connected(client);
  const events = client.events();
  const first = events.next();
  await aMoment(5);
  server.publish();
  await first;
  for (let n = 0; n < 1001; n += 1) server.publish();
  await until(() => client.seen.length === 1002);
  await assert.rejects(events.next(), { code: 'too_slow' });
  assert.deepEqual(await events.next(), { value: undefined, done: true });
});

test('an iteration ends when the client is closed, with what closed it', async (t) => {
  const { server, open } = await setup(t);
  const [asked, thrown] = [open(), open()];
  await connected(asked);
  await connected(thrown);
  const ends = [asked.events().next(), thrown.events().next()];
  await aMoment(5);
  asked.close();
  server.closeSockets(4403, 'disconnected');
  assert.deepEqual(await ends[0], { value: undefined, done: true });
  await assert.rejects(ends[1], { code: 'disconnected' });
  assert.deepEqual(await asked.events().next(), { value: undefined, done: true });
});

test('the server says that it is degraded, and that it no longer is', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  await connected(client);
  server.tell({ op: 'signal', type: 'status', state: 'degraded' });
  await until(() => client.state === 'degraded');
  server.publish();
  await until(() => client.seen.length === 1);
  server.tell({ op: 'signal', type: 'status', state: 'ok' });
  await until(() => client.state === 'connected');
  server.tell({ op: 'signal', type: 'status', state: 'degraded' });
  await until(() => client.state === 'degraded');
  client.cut();
  await connected(client);
  assert.deepEqual(client.states.filter((state) => state.startsWith('d')), ['degraded websocket', 'degraded websocket']);
});

test('what is granted and which process answers is known, and follows the server', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  await connected(client);
  assert.deepEqual([client.communities, client.node], [[42], 'fake']);
  server.tell({ op: 'signal', type: 'membership', communities: [42, 43], last_event_id: 1 });
  await until(() => client.communities.length === 2);
});

test('a gap names the articles that were subscribed to, unless something was not narrowed', async (t) => {
  const { server, open } = await setup(t);
  const client = open();
  client.subscribe({ community: 42, article: 7 }, () => {});
  client.subscribe({ community: 42, article: 8 }, () => {});
  await connected(client);
  const gap = async (communities) => {
    const before = client.gaps.length;
    server.tell({ op: 'catchup_required', catchup_required: true, reason: 'trimmed', last_event_id: 1000, communities });
    await until(() => client.gaps.length > before);
    return client.gaps.at(-1).articles;
  };
  assert.deepEqual(await gap([42]), [7, 8]);
  assert.deepEqual(await gap(undefined), [7, 8]);
  assert.deepEqual(await gap([42, 43]), undefined);
  client.subscribe({ community: 42 }, () => {});
  assert.deepEqual(await gap([42]), undefined);
});
