/* What each tab has narrowed its events to, as the server would hold it were the tab alone, and what that asks of the
 * one queue they share.
 *
 * topics: Map of community -> 'all' or a Set of articles. A community that is not in it was never narrowed: all of it. */

/* The topics after a `subscribe` or `unsubscribe` message. */
export function narrowed(topics, { op, community_id: community, article_id: article }) {
  const held = topics.get(community);
  const articles = new Set(held instanceof Set ? held : []);
  const next = new Map(topics);
  if (article === undefined) return next.set(community, op === 'subscribe' ? 'all' : new Set());
  if (op === 'subscribe') return next.set(community, articles.add(article));
  articles.delete(article);
  return held instanceof Set ? next.set(community, articles) : next;
}

/* The topics that leave no tab without what it would have alone. */
export function merged(tabs) {
  const all = new Map();
  for (const community of new Set(tabs.flatMap((topics) => [...topics.keys()]))) {
    const sets = tabs.map((topics) => topics.get(community));
    const whole = sets.some((set) => !(set instanceof Set));
    all.set(community, whole ? 'all' : new Set(sets.flatMap((set) => [...set])));
  }
  return all;
}
