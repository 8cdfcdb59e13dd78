import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InfiniteQueryObserver, QueryClient, QueryObserver } from '@tanstack/query-core';
import { bridge, discussionMap } from '../src/tanstack-query.js';
import { setup, until } from './helpers.js';

const DISCUSSIONS = ['discussions', { community: 42, article: 7 }];
const COMMENTS = ['comments', { community: 42, article: 7, discussion: 3 }];

/* What the bridge uses of a client, told by hand. */
class Client {
  listeners = new Map();

  constructor(lastEventId) {
    this.lastEventId = lastEventId;
  }

  on(name, handler) {
    if (!this.listeners.has(name)) this.listeners.set(name, new Set());
    this.listeners.get(name).add(handler);
    return () => this.listeners.get(name).delete(handler);
  }

  tell(name, value) {
    for (const handler of [...(this.listeners.get(name) ?? [])]) handler(value);
  }

  event(type, data, rest) {
    this.tell('event', { type, community_ids: [42], data: { community_id: 42, article_id: 7, ...data }, ...rest });
  }

  discussion(verb, discussion) {
    this.event(`${verb}_discussion`, { discussion });
  }

  comment(verb, comment, discussion = 3) {
    this.event(`${verb}_comment`, { discussion_id: discussion, comment });
  }
}

function bridged(t, { map, lastEventId = 1 } = {}) {
  const queries = new QueryClient({ defaultOptions: { queries: { retry: false, staleTime: Infinity, gcTime: Infinity } } });
  const client = new Client(lastEventId);
  const undo = bridge(queries, client, map);
  t.after(() => (undo(), queries.clear()));
  return { queries, client, undo };
}

const pages = (...lists) => ({ pages: lists, pageParams: lists.map((_, n) => n) });
const items = (...ids) => ids.map((id) => ({ id }));

/* A query somebody looks at, answered by hand: fetches[n].resolve(rows). */
function watched(t, queries, queryKey, Observer = QueryObserver, options = {}) {
  const fetches = [];
  const queryFn = () => new Promise((resolve, reject) => fetches.push({ resolve, reject }));
  const observer = new Observer(queries, { queryKey, queryFn, ...options });
  t.after(observer.subscribe(() => {}));
  const data = () => queries.getQueryData(queryKey);
  return { fetches, observer, data, idle: () => until(() => !queries.isFetching({ queryKey })) };
}

/* ------------------------------------------------------------------------------------- the six types */

test('a new discussion comes first, a new comment last', (t) => {
  const { queries, client } = bridged(t);
  queries.setQueryData(DISCUSSIONS, items(1));
  queries.setQueryData(COMMENTS, items(1));
  client.discussion('new', { id: 2 });
  client.comment('new', { id: 2 });
  assert.deepEqual(queries.getQueryData(DISCUSSIONS), items(2, 1));
  assert.deepEqual(queries.getQueryData(COMMENTS), items(1, 2));
});

test('an update changes the item in place and keeps what it does not name', (t) => {
  const { queries, client } = bridged(t);
  queries.setQueryData(DISCUSSIONS, [{ id: 1 }, { id: 2, title: 'old', open: true }, { id: 3 }]);
  queries.setQueryData(COMMENTS, [{ id: 1, text: 'old' }]);
  client.discussion('updated', { id: 2, title: 'new' });
  client.comment('updated', { id: 1, text: 'new' });
  assert.deepEqual(queries.getQueryData(DISCUSSIONS), [{ id: 1 }, { id: 2, title: 'new', open: true }, { id: 3 }]);
  assert.deepEqual(queries.getQueryData(COMMENTS), [{ id: 1, text: 'new' }]);
});

test('a deletion removes the item, also when only its id is told', (t) => {
  const { queries, client } = bridged(t);
  queries.setQueryData(DISCUSSIONS, items(1, 2));
  queries.setQueryData(COMMENTS, items(1, 2, 3));
  client.discussion('deleted', { id: 1 });
  client.comment('deleted', { id: 2 });
  client.event('deleted_comment', { discussion_id: 3, comment_id: 3 });
  assert.deepEqual(queries.getQueryData(DISCUSSIONS), items(2));
  assert.deepEqual(queries.getQueryData(COMMENTS), items(1));
});

test('an item that is there already is not added twice', (t) => {
  const { queries, client } = bridged(t);
  queries.setQueryData(COMMENTS, [{ id: 1, sending: true }]);
  client.comment('new', { id: 1, text: 'hello' });
  assert.deepEqual(queries.getQueryData(COMMENTS), [{ id: 1, sending: true, text: 'hello' }]);
});

test('what is not in a cache is neither updated nor removed, and a query without data stays so', (t) => {
  const { queries, client } = bridged(t);
  const before = items(1);
  queries.setQueryData(COMMENTS, before);
  client.comment('updated', { id: 9 });
  client.comment('deleted', { id: 9 });
  client.comment('new', { id: 9 }, 4);
  client.discussion('new', { id: 9 });
  assert.equal(queries.getQueryData(COMMENTS), before);
  assert.equal(queries.getQueryData(DISCUSSIONS), undefined);
  assert.equal(queries.getQueryCache().getAll().length, 1);
});

test('other types and events without their item change nothing', (t) => {
  const { queries, client } = bridged(t);
  const before = items(1);
  queries.setQueryData(COMMENTS, before);
  client.event('typing', { discussion_id: 3, comment: { id: 2 } });
  client.event('new_comment', { discussion_id: 3 });
  client.tell('event', { type: 'new_comment', data: null });
  assert.equal(queries.getQueryData(COMMENTS), before);
});

test('a comment that does not say its discussion is fetched, for it could be anywhere', async (t) => {
  const { queries, client } = bridged(t);
  queries.setQueryData(COMMENTS, items(1));
  client.event('new_comment', { comment: { id: 2 } });
  assert.deepEqual(queries.getQueryData(COMMENTS), items(1));
  assert.ok(queries.getQueryState(COMMENTS).isInvalidated);
});

/* --------------------------------------------------------------------------------- shapes and keys */

test('a list beside a count keeps the count', (t) => {
  const { queries, client } = bridged(t);
  queries.setQueryData(COMMENTS, { count: 1, items: items(1) });
  client.comment('new', { id: 2 });
  assert.deepEqual(queries.getQueryData(COMMENTS), { count: 1, items: items(1, 2) });
});

test('keys that go on after the pattern are covered, and ids may be strings', (t) => {
  const { queries, client } = bridged(t);
  const sorted = ['comments', { community: '42', article: '7', discussion: '3', by: 'time' }, 'page', 1];
  const other = ['comments', { community: '42', article: '7', discussion: '33' }];
  queries.setQueryData(sorted, items(1));
  queries.setQueryData(other, items(1));
  client.comment('new', { id: 2 });
  assert.deepEqual(queries.getQueryData(sorted), items(1, 2));
  assert.deepEqual(queries.getQueryData(other), items(1));
});

test('an application has its own keys, shapes, ids and places', (t) => {
  const map = discussionMap({
    comments: {
      queryKey: ({ discussion }) => ['thread', discussion],
      read: (page) => page.results,
      write: (page, results) => ({ ...page, results }),
      id: (item) => item.uuid,
      update: (_, item) => item,
      insert: (list, item) => [...list, item].sort((a, b) => b.votes - a.votes),
    },
  });
  const { queries, client } = bridged(t, { map });
  queries.setQueryData(['thread', 3], { total: 2, results: [{ uuid: 'a', votes: 9 }, { uuid: 'b', votes: 1 }] });
  client.comment('new', { uuid: 'c', votes: 5 });
  client.comment('updated', { uuid: 'b', text: 'changed' });
  assert.deepEqual(queries.getQueryData(['thread', 3]), {
    total: 2,
    results: [{ uuid: 'a', votes: 9 }, { uuid: 'c', votes: 5 }, { uuid: 'b', text: 'changed' }],
  });
});

test('an application has its own types, and more than one query changes', (t) => {
  const map = {
    changes: ({ type, data }) => type === 'voted' && [
      { queryKey: ['polls'], action: 'update', item: { id: data.poll, votes: data.votes } },
      { queryKey: ['dashboard'], action: 'invalidate' },
    ],
    queries: () => [['polls'], ['dashboard']],
  };
  const { queries, client } = bridged(t, { map });
  queries.setQueryData(['polls'], items(5));
  queries.setQueryData(['dashboard'], {});
  client.event('voted', { poll: 5, votes: 2 });
  client.event('ignored', {});
  assert.deepEqual(queries.getQueryData(['polls']), [{ id: 5, votes: 2 }]);
  assert.ok(queries.getQueryState(['dashboard']).isInvalidated);
});

/* -------------------------------------------------------------------------------- infinite queries */

test('in an infinite query items change on whichever page they are, the other pages stay the same', (t) => {
  const { queries, client } = bridged(t);
  const before = pages(items(1, 2), items(3, 4), items(5));
  queries.setQueryData(COMMENTS, before);
  client.comment('updated', { id: 3, text: 'changed' });
  client.comment('deleted', { id: 5 });
  const after = queries.getQueryData(COMMENTS);
  assert.deepEqual(after, pages(items(1, 2), [{ id: 3, text: 'changed' }, { id: 4 }], []));
  assert.equal(after.pages[0], before.pages[0]);
});

test('a new item of an infinite query starts the first page or ends the last', (t) => {
  const { queries, client } = bridged(t);
  queries.setQueryData(DISCUSSIONS, pages({ items: items(3) }, { items: items(2) }));
  queries.setQueryData(COMMENTS, pages(items(1), items(2)));
  client.discussion('new', { id: 4 });
  client.comment('new', { id: 3 });
  client.comment('new', { id: 1 });
  assert.deepEqual(queries.getQueryData(DISCUSSIONS), pages({ items: items(4, 3) }, { items: items(2) }));
  assert.deepEqual(queries.getQueryData(COMMENTS), pages(items(1), items(2, 3)));
});

test('an infinite query whose end is not loaded gets a new item with its page', async (t) => {
  const { queries, client } = bridged(t);
  let last = 5;
  const { fetches, observer, data, idle } = watched(t, queries, COMMENTS, InfiniteQueryObserver, {
    initialPageParam: 1,
    getNextPageParam: (page) => (page.at(-1).id < last ? page.at(-1).id : undefined),
  });
  fetches[0].resolve(items(1, 2));
  await idle();
  last = 6;
  client.comment('new', { id: 6 });
  assert.deepEqual(data().pages, [items(1, 2)]);
  observer.fetchNextPage();
  await until(() => fetches.length === 2);
  fetches[1].resolve(items(3, 4, 5, 6));
  await idle();
  client.comment('new', { id: 7 });
  assert.deepEqual(data().pages, [items(1, 2), items(3, 4, 5, 6, 7)]);
});

/* ------------------------------------------------------------------------------ fetches under way */

test('rows that were read before an event are corrected by it when they come', async (t) => {
  const { queries, client } = bridged(t);
  const { fetches, data, idle } = watched(t, queries, COMMENTS);
  client.comment('new', { id: 4, text: 'a' });
  client.comment('updated', { id: 4, text: 'b' });
  client.comment('deleted', { id: 1 });
  assert.equal(data(), undefined);
  fetches[0].resolve(items(1, 2));
  await idle();
  assert.deepEqual(data(), [{ id: 2 }, { id: 4, text: 'b' }]);
});

test('an event during a refetch shows at once and survives it', async (t) => {
  const { queries, client } = bridged(t);
  const { fetches, data, idle } = watched(t, queries, COMMENTS);
  fetches[0].resolve(items(1));
  await idle();
  queries.invalidateQueries({ queryKey: COMMENTS });
  await until(() => fetches.length === 2);
  client.comment('new', { id: 2 });
  assert.deepEqual(data(), items(1, 2));
  fetches[1].resolve(items(1));
  await idle();
  assert.deepEqual(data(), items(1, 2));
  queries.invalidateQueries({ queryKey: COMMENTS });
  await until(() => fetches.length === 3);
  fetches[2].resolve(items(1));
  await idle();
  assert.deepEqual(data(), items(1), 'what was corrected once is not corrected for ever');
});

test('a refetch that fails keeps the event', async (t) => {
  const { queries, client } = bridged(t);
  const { fetches, data, idle } = watched(t, queries, COMMENTS);
  fetches[0].resolve(items(1));
  await idle();
  queries.invalidateQueries({ queryKey: COMMENTS });
  await until(() => fetches.length === 2);
  client.comment('new', { id: 2 });
  fetches[1].reject(new Error('gone'));
  await idle();
  assert.deepEqual(data(), items(1, 2));
});

test('an event neither makes old rows fresh nor calls off a refetch that is due', (t) => {
  const { queries, client } = bridged(t);
  queries.setQueryData(COMMENTS, items(1), { updatedAt: 1000 });
  queries.invalidateQueries({ queryKey: COMMENTS });
  client.comment('new', { id: 2 });
  const { data, dataUpdatedAt, isInvalidated } = queries.getQueryState(COMMENTS);
  assert.deepEqual(data, items(1, 2));
  assert.equal(dataUpdatedAt, 1000);
  assert.equal(isInvalidated, true);
});

/* ------------------------------------------------------------------------------------------- gaps */

const OTHERS = {
  article: ['comments', { community: 42, article: 8, discussion: 4 }],
  community: ['discussions', { community: 43, article: 9 }],
  foreign: ['profile', 42],
};

function fill(queries) {
  const keys = { discussions: DISCUSSIONS, comments: COMMENTS, ...OTHERS };
  for (const key of Object.values(keys)) queries.setQueryData(key, []);
  return () => Object.keys(keys).filter((name) => queries.getQueryState(keys[name]).isInvalidated);
}

for (const [what, gap, expected] of [
  ['of everything', {}, ['discussions', 'comments', 'article', 'community']],
  ['of a community', { communities: [42] }, ['discussions', 'comments', 'article']],
  ['of an article', { communities: [42], articles: [7] }, ['discussions', 'comments']],
  ['of an article of another community', { communities: [43], articles: [7] }, []],
]) {
  test(`a gap ${what} invalidates exactly that`, (t) => {
    const { queries, client } = bridged(t);
    const invalidated = fill(queries);
    client.tell('gap', { reason: 'trimmed', lastEventId: 9, ...gap });
    assert.deepEqual(invalidated(), expected);
  });
}

test('after a gap what is shown is fetched again', async (t) => {
  const { queries, client } = bridged(t);
  const { fetches, data, idle } = watched(t, queries, COMMENTS);
  fetches[0].resolve(items(1));
  await idle();
  client.tell('gap', { reason: 'epoch', lastEventId: 9 });
  await until(() => fetches.length === 2);
  client.tell('gap', { reason: 'epoch', lastEventId: 10 });
  await until(() => fetches.length === 3);
  fetches[1].resolve(items(1));
  fetches[2].resolve(items(1, 2));
  await idle();
  assert.deepEqual(data(), items(1, 2));
});

test('a gap during the first fetch has it fetched again, for it may have read too early', async (t) => {
  const { queries, client } = bridged(t);
  const { fetches, data, idle } = watched(t, queries, COMMENTS);
  client.tell('gap', { reason: 'epoch', lastEventId: 9 });
  fetches[0].resolve(items(1));
  await until(() => fetches.length === 2);
  fetches[1].resolve(items(1, 2));
  await idle();
  assert.deepEqual(data(), items(1, 2));
});

test('what was fetched before the first connection is fetched again, once', (t) => {
  const { queries, client } = bridged(t, { lastEventId: null });
  client.lastEventId = undefined;
  const undo = bridge(queries, client);
  const invalidated = fill(queries);
  client.tell('state', { state: 'connecting' });
  assert.deepEqual(invalidated(), []);
  client.tell('state', { state: 'connected' });
  assert.deepEqual(invalidated(), ['discussions', 'comments', 'article', 'community']);
  fill(queries);
  client.tell('state', { state: 'connected' });
  assert.deepEqual(invalidated(), []);
  undo();
});

test('a position that came with the rows makes that unnecessary', (t) => {
  const { queries, client } = bridged(t, { lastEventId: 5 });
  const invalidated = fill(queries);
  client.tell('state', { state: 'connected' });
  assert.deepEqual(invalidated(), []);
});

test('its undo leaves nothing behind', (t) => {
  const { queries, client, undo } = bridged(t);
  const before = items(1);
  queries.setQueryData(COMMENTS, before);
  undo();
  client.comment('new', { id: 2 });
  client.tell('gap', { reason: 'epoch', lastEventId: 9 });
  assert.equal(queries.getQueryData(COMMENTS), before);
  assert.equal(queries.getQueryState(COMMENTS).isInvalidated, false);
  assert.equal([...client.listeners.values()].reduce((sum, { size }) => sum + size, 0), 0);
  assert.equal(queries.getQueryCache().hasListeners(), false);
});

test('with the real client: an event reaches the cache', async (t) => {
  const { server, open } = await setup(t);
  const queries = new QueryClient();
  const client = open();
  t.after(bridge(queries, client));
  await until(() => client.state === 'connected');
  queries.setQueryData(COMMENTS, items(1));
  server.publish({ article_id: 7, discussion_id: 3, comment: { id: 2 } });
  await until(() => queries.getQueryData(COMMENTS).length === 2);
  queries.clear();
});
