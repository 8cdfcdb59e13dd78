/* What survives a reload, and what must not be shared by two pages. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fakePage } from './fake_page.js';
import { aMoment, connected, listening, setup, until } from './helpers.js';

function memory() {
  const items = new Map();
  return {
    items,
    getItem: (key) => items.get(key) ?? null,
    setItem: (key, value) => void items.set(key, value),
    removeItem: (key) => void items.delete(key),
  };
}

/* AsyncStorage. */
function slowMemory() {
  const { items, getItem, setItem, removeItem } = memory();
  const later = (fn) => async (...args) => (await aMoment(5), fn(...args));
  return { items, getItem: later(getItem), setItem: later(setItem), removeItem: later(removeItem) };
}

const entry = (storage) => JSON.parse([...storage.items.values()][0] ?? 'null');

for (const transport of ['websocket', 'longpoll']) {
  for (const make of [memory, slowMemory]) {
    test(`${transport}, ${make.name}: a reload goes on with the same queue: nothing missed, nothing twice`, async (t) => {
      const { server, open } = await setup(t);
      const storage = make();
      const page = fakePage();
      const before = open({ transports: [transport], storage, page });
      await listening(server, before);
      const seen = server.publish();
      await until(() => before.seen.length === 1);
      page.say('pagehide');
      const missed = server.publish();
      await aMoment();

      const after = open({ transports: [transport], storage, page: null });
      await until(() => after.seen.length === 1);
      assert.deepEqual(after.seen, [missed.event_id]);
      assert.equal(after.queueId, before.queueId);
      assert.notEqual(missed.event_id, seen.event_id);
      assert.equal(server.queues.size, 1);
    });
  }
}

test('a copy of a page that still lives takes a queue of its own, from the same position', async (t) => {
  const { server, open } = await setup(t);
  const storage = memory();
  const first = open({ storage, page: null });
  await connected(first);
  server.publish();
  await until(() => entry(storage).lastEventId === first.lastEventId && first.seen.length === 1);
  const copy = open({ storage: { ...memory(), getItem: storage.getItem }, page: null });
  await connected(copy);
  assert.notEqual(copy.queueId, first.queueId);
  server.publish();
  await until(() => copy.seen.length === 1 && first.seen.length === 2);
  assert.deepEqual([first.state, copy.state], ['connected', 'connected']);
});

test('what a slow handler has not finished comes again after a reload', async (t) => {
  const { server, open } = await setup(t);
  const storage = memory();
  const page = fakePage();
  const before = open({ storage, page });
  before.on('event', () => new Promise(() => {}));
  await connected(before);
  const unfinished = server.publish();
  await until(() => before.seen.length === 1);
  page.say('pagehide');
  const after = open({ storage, page: null });
  await until(() => after.seen.length === 1);
  assert.equal(after.seen[0], unfinished.event_id);
});

test('writing is throttled; a page that goes writes at once', async (t) => {
  const { server, open } = await setup(t);
  const storage = memory();
  let writes = 0;
  const page = fakePage();
  const client = open({ storage: { ...storage, setItem: (...item) => (writes++, storage.setItem(...item)) }, page, timing: { ackMs: 100 } });
  await connected(client);
  const before = writes;
  for (let n = 0; n < 20; n += 1) server.publish();
  await until(() => client.seen.length === 20);
  assert.equal(writes, before);
  await aMoment(150);
  assert.equal(writes, before + 1);
  server.publish();
  await until(() => client.seen.length === 21);
  page.say('pagehide');
  assert.deepEqual(entry(storage), { queueId: client.queueId, lastEventId: client.lastEventId });
});

test('a busy hour is written too, and a quiet one', async (t) => {
  const { server, open } = await setup(t);
  const storage = memory();
  const client = open({ storage, page: null, timing: { ackMs: 40 } });
  await connected(client);
  const busy = setInterval(() => server.publish(), 5);
  t.after(() => clearInterval(busy));
  await until(() => entry(storage).lastEventId > 1000);
  clearInterval(busy);
  await aMoment(20);
  server.tell({ op: 'ping', last_event_id: 90_000 });
  await until(() => entry(storage).lastEventId === 90_000);
  server.tell({ op: 'catchup_required', catchup_required: true, reason: 'epoch', last_event_id: 5 });
  await until(() => entry(storage).lastEventId === 5);
});

test('closing forgets, keeping the queue remembers, being replaced leaves it to the other', async (t) => {
  const { server, open } = await setup(t);
  const storage = memory();
  const client = open({ storage, page: null });
  await connected(client);
  client.close({ keepQueue: true });
  assert.deepEqual(entry(storage), { queueId: 'q1', lastEventId: 1000 });
  client.connect();
  await connected(client);
  server.closeSockets(4409, 'replaced');
  await until(() => client.state === 'closed');
  assert.equal(entry(storage).open, true);
  const other = open({ storage, page: null });
  await connected(other);
  other.close();
  assert.equal(entry(storage), null);
});

test('options are newer than what was stored', async (t) => {
  const { server, open } = await setup(t);
  const storage = memory();
  const first = server.publish();
  const second = server.publish();
  storage.setItem('mine', JSON.stringify({ lastEventId: second.event_id }));
  const client = open({ storage, storageKey: 'mine', page: null, lastEventId: first.event_id });
  await until(() => client.seen.length === 1);
  assert.deepEqual(client.seen, [second.event_id]);
});

test('a storage that fails is reported and not needed', async (t) => {
  const { server, open } = await setup(t);
  const broken = () => {
    throw new Error('denied');
  };
  const client = open({ storage: { getItem: broken, setItem: broken, removeItem: broken }, page: null });
  await connected(client);
  server.publish();
  await until(() => client.seen.length === 1);
  assert.ok(client.errors.length && client.errors.every((code) => code === 'storage'));
});
