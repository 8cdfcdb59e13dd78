import type { ParleyClient, ParleyEvent, Undo } from './index.js';

/** What the bridge needs of a `QueryClient` of TanStack Query v5, whichever framework's package it comes from. */
export interface QueryClientLike {
  getQueryCache(): {
    findAll(filters: { predicate: (query: any) => boolean }): any[];
    subscribe(listener: (event: any) => void): () => void;
  };
  setQueryData(queryKey: readonly unknown[], data: any, options?: { updatedAt?: number }): unknown;
  invalidateQueries(filters: any): Promise<void>;
}

/**
 * The beginning of the keys that are meant, objects in part, as in the filters of TanStack Query; and besides, `undefined`
 * stands for anything, and numbers match the same in a string.
 */
export type KeyPattern = readonly unknown[];

/** What a list looks like in the cache and how it changes. A list is a query's data, or each page of an infinite query. */
export interface List<Item = any, Page = any> {
  /** What items are told apart by. Default: `item.id`. */
  id?: (item: Item) => unknown;
  /** The items of a page; nothing when it has none. Default: the page if it is an array, else its `items`. */
  read?: (page: Page) => Item[] | undefined;
  /** The page with other items. Default: the array, or `{ ...page, items }`. */
  write?: (page: Page, items: Item[]) => Page;
  /** Default: `{ ...old, ...item }`. */
  update?: (old: Item, item: Item) => Item;
  /**
   * Where a new item goes. `'end'` (default) of an infinite query that has more pages: nowhere, it comes with its page.
   * A function gets the items of the last page.
   */
  insert?: 'start' | 'end' | ((items: Item[], item: Item) => Item[]);
}

/** An item that is known already is updated, never added twice. One that is not known is neither updated nor removed. */
export interface Change<Item = any, Page = any> extends List<Item, Page> {
  queryKey: KeyPattern;
  action: 'add' | 'update' | 'remove' | 'invalidate';
  item: Item;
}

export interface BridgeMap {
  /** What an event changes; nothing if it is of no concern. */
  changes(event: ParleyEvent<any>): Change | Change[] | undefined;
  /** The queries that show something of the topic; `undefined` within it: of any. `{}`: all that `changes` may ever touch. */
  queries(topic: { community?: number; article?: number }): KeyPattern[];
}

/** What an event or a gap says of where it happened. */
export interface Where {
  community?: number;
  article?: number;
  /** Of a comment. */
  discussion?: number;
}

export interface ListOptions<Item = any, Page = any> extends List<Item, Page> {
  /** What is not known is `undefined` and may be left so: it stands for anything. */
  queryKey?: (where: Where) => KeyPattern;
}

/**
 * For `new_`, `updated_` and `deleted_` of `discussion` and `comment`, with the item in `data.discussion` or `data.comment`
 * (a deletion may say only `data.discussion_id` or `data.comment_id`). Unless told otherwise, discussions are in
 * `['discussions', { community, article }]`, newest first, and comments in `['comments', { community, article, discussion }]`,
 * newest last.
 */
export function discussionMap(options?: { discussions?: ListOptions; comments?: ListOptions }): BridgeMap;

/**
 * Keeps the caches as the events say, until its undo is called: items are added, updated in place and removed, in lists,
 * paged lists and infinite queries. What a fetch brings that began before an event is corrected by it. A `gap` invalidates
 * the queries it concerns. So does the first connection all of the map's, because of what happened between their fetch and
 * it; unless the client was given a position (`lastEventId`) that came with the rows.
 *
 * The client's `subscribe` decides which events come at all. What this client publishes does not come back: write that
 * where it is published, as with any mutation.
 */
export function bridge(queryClient: QueryClientLike, parley: ParleyClient, map?: BridgeMap): Undo;
