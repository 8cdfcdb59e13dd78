/* Events into the caches of TanStack Query. A map says which queries an event changes and how; the bridge changes them
 * so that neither a fetch under way nor what was invalidated is lost. */

/* ------------------------------------------------------------------------------------------------ the map */

const TYPE = /^(new|updated|deleted)_(discussion|comment)$/;
const ACTIONS = { new: 'add', updated: 'update', deleted: 'remove' };

const DISCUSSIONS = { queryKey: ({ community, article }) => ['discussions', { community, article }], insert: 'start' };
const COMMENTS = { queryKey: ({ community, article, discussion }) => ['comments', { community, article, discussion }], insert: 'end' };

/* The six types of event of discussions and comments. */
export function discussionMap({ discussions = {}, comments = {} } = {}) {
  const lists = { discussion: { ...DISCUSSIONS, ...discussions }, comment: { ...COMMENTS, ...comments } };
  return {
    changes({ type, data, community_ids: communities }) {
      const [, verb, noun] = TYPE.exec(type) ?? [];
      const item = noun && itemOf(noun, data);
      if (!item) return [];
      const { queryKey, ...list } = lists[noun];
      const where = { community: data.community_id ?? communities?.[0], article: data.article_id, discussion: data.discussion_id };
      /* A new item belongs to one list: without the id that names it, only the server knows which. */
      const homeless = (noun === 'comment' ? where.discussion : where.article) === undefined;
      const action = verb === 'new' && homeless ? 'invalidate' : ACTIONS[verb];
      return [{ ...list, queryKey: queryKey(where), action, item }];
    },
    queries: (topic) => Object.values(lists).map(({ queryKey }) => queryKey({ ...topic })),
  };
}

/* A deletion may say the id only. */
function itemOf(noun, data) {
  const id = data?.[`${noun}_id`];
  return data?.[noun] ?? (id === undefined ? undefined : { id });
}

/* ---------------------------------------------------------------------------------------------- the bridge */

export function bridge(queryClient, parley, map = discussionMap()) {
  const cache = queryClient.getQueryCache();
  const late = new Map(); // query -> changes since its fetch began: the rows it brings may be older than they are

  function apply(change, ...patterns) {
    const covered = ({ queryKey }) => patterns.some((pattern) => covers(pattern, queryKey));
    for (const query of cache.findAll({ predicate: covered })) {
      if (query.state.fetchStatus !== 'idle' && outlives(query, change)) late.set(query, [...(late.get(query) ?? []), change]);
      write(queryClient, query, change);
    }
  }

  function onEvent(event) {
    for (const change of [].concat(map.changes(event) || [])) apply(change, change.queryKey);
  }

  function onGap(gap) {
    for (const topic of topicsOf(gap)) apply(INVALIDATE, ...map.queries(topic));
  }

  function onCache({ type, query }) {
    const changes = late.get(query);
    if (type === 'removed') late.delete(query);
    if (type !== 'updated' || !changes || query.state.fetchStatus !== 'idle') return;
    late.delete(query);
    for (const change of changes) write(queryClient, query, change);
  }

  /* Whoever fetched before the events began to flow has a hole in between, unless the position came with the rows. */
  const fromNow = parley.lastEventId === undefined;
  const offFirst = parley.on('state', ({ state }) => {
    if (state !== 'connected' && state !== 'degraded') return;
    offFirst();
    if (fromNow) apply(INVALIDATE, ...map.queries({}));
  });

  const undo = [offFirst, parley.on('event', onEvent), parley.on('gap', onGap), cache.subscribe(onCache), () => late.clear()];
  return () => undo.forEach((off) => off());
}

const INVALIDATE = { action: 'invalidate' };

/* An invalidation starts a fetch anew, but a first one goes on: its rows are as old as its question. */
function outlives(query, { action }) {
  return action !== 'invalidate' || query.state.data === undefined;
}

/* Every combination that lost events; {} for everything. */
function topicsOf({ communities = [undefined], articles = [undefined] }) {
  return communities.flatMap((community) => articles.map((article) => ({ community, article })));
}

/* Like the prefixes of TanStack Query, but `undefined` stands for anything, and 42 is '42': routers give strings. */
function covers(pattern, key) {
  if (pattern === undefined || Object.is(pattern, key)) return true;
  if (typeof pattern !== 'object' || pattern === null) return isId(pattern) && isId(key) && String(pattern) === String(key);
  if (typeof key !== 'object' || key === null || Array.isArray(pattern) !== Array.isArray(key)) return false;
  return Object.keys(pattern).every((name) => covers(pattern[name], key[name]));
}

const isId = (value) => typeof value === 'number' || typeof value === 'string';

/* ------------------------------------------------------------------------------------------------ one query */

/* Fresh data would also say that the query is up to date: its age and a pending invalidation outlive the change. */
function write(queryClient, query, change) {
  const { data, dataUpdatedAt: updatedAt, isInvalidated } = query.state;
  const exactly = { queryKey: query.queryKey, exact: true };
  if (change.action === 'invalidate') return void queryClient.invalidateQueries(exactly);
  const changed = data === undefined ? data : changedData(data, change, query);
  if (changed === data) return;
  queryClient.setQueryData(query.queryKey, changed, { updatedAt });
  if (isInvalidated) queryClient.invalidateQueries({ ...exactly, refetchType: 'none' });
}

function changedData(data, change, query) {
  const pages = isInfinite(data) ? data.pages : [data];
  const changed = changedPages(pages, { ...PLACE, ...change }, () => hasMore(data, query));
  if (changed === pages) return data;
  return isInfinite(data) ? { ...data, pages: changed } : changed[0];
}

/* As lists come: bare, or with their items beside a count. */
const PLACE = {
  id: (item) => item.id,
  read: (page) => (Array.isArray(page) ? page : page?.items),
  write: (page, items) => (Array.isArray(page) ? items : { ...page, items }),
  update: (old, item) => ({ ...old, ...item }),
  insert: 'end',
};

function changedPages(pages, change, more) {
  const { action, item, id, read, write: put, update } = change;
  const is = (other) => id(other) === id(item);
  const known = pages.some((page) => read(page)?.some(is));
  if (!known) return action === 'add' ? added(pages, change, more) : pages;
  return pages.map((page) => {
    const items = read(page);
    if (!items?.some(is)) return page;
    return put(page, action === 'remove' ? items.filter((other) => !is(other)) : items.map((other) => (is(other) ? update(other, item) : other)));
  });
}

function added(pages, { item, read, write: put, insert }, more) {
  const first = insert === 'start';
  if (insert === 'end' && more()) return pages;
  const at = first ? 0 : pages.length - 1;
  const items = read(pages[at]);
  if (!items) return pages;
  const next = typeof insert === 'function' ? insert(items, item) : first ? [item, ...items] : [...items, item];
  return pages.map((page, n) => (n === at ? put(page, next) : page));
}

function isInfinite(data) {
  return Array.isArray(data?.pages) && Array.isArray(data.pageParams);
}

/* Then the end of the list is not loaded, and a new item comes with it. */
function hasMore(data, { options }) {
  if (!isInfinite(data)) return false;
  const { pages, pageParams } = data;
  return options?.getNextPageParam?.(pages.at(-1), pages, pageParams.at(-1), pageParams) != null;
}
