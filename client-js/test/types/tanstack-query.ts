/* Must compile, and each line marked so must not. */
import { QueryClient } from '@tanstack/query-core';
import { Parley } from 'parley-client';
import { bridge, discussionMap, type BridgeMap } from 'parley-client/tanstack-query';

const parley = new Parley({ url: 'https://example.org', getToken: () => 'token' });
const queries = new QueryClient();

const undo: () => void = bridge(queries, parley);
undo();

interface Comment {
  uuid: string;
  votes: number;
}

bridge(queries, parley, discussionMap({
  discussions: { queryKey: ({ article }) => ['articles', article, 'discussions'], insert: 'start' },
  comments: {
    queryKey: ({ discussion }) => ['thread', discussion],
    id: (comment: Comment) => comment.uuid,
    read: (page: { results: Comment[] }) => page.results,
    write: (page: { results: Comment[] }, results: Comment[]) => ({ ...page, results }),
    insert: (comments: Comment[], comment: Comment) => [...comments, comment],
  },
}));

const map: BridgeMap = {
  changes: ({ type, data }) => (type === 'voted' ? { queryKey: ['polls'], action: 'update', item: data } : undefined),
  queries: ({ community }) => [['polls', community]],
};
bridge(queries, parley, map);

// @ts-expect-error something listens
bridge(queries);
// @ts-expect-error a place is one of those named, or a function
discussionMap({ comments: { insert: 'middle' } });
// @ts-expect-error a map says what a gap concerns
bridge(queries, parley, { changes: () => [] });
