/* Which messages turn what the server holds for one community into what the subscribers want.
 *
 * want: Map of topic -> number of handlers; the topic '' is the whole community.
 * have: what the server was last known to hold: 'all', a Set of articles, or undefined when unknown.
 *
 * The server turns `all` into a set at the first article, and a set into `all` by a subscribe without one;
 * an unsubscribe without article empties it. */
export function changes(community, want, have) {
  const message = (op, article) =>
    article === undefined ? { op, community_id: community } : { op, community_id: community, article_id: article };
  if (want.has('')) return have === 'all' ? [] : [message('subscribe')];
  if (!want.size && !(have instanceof Set)) return [message('unsubscribe')];

  /* From an unknown state nothing is taken away first: an article that lingers costs a few events nobody listens
   * to, a set emptied and filled again could miss one. */
  const known = have instanceof Set ? have : new Set();
  const added = [...want.keys()].filter((article) => !known.has(article)).map((article) => message('subscribe', article));
  const gone = [...known].filter((article) => !want.has(article)).map((article) => message('unsubscribe', article));
  return [...added, ...gone];
}

/* What the server holds once it has said yes to all of those messages. */
export function settled(want) {
  return want.has('') ? 'all' : new Set(want.keys());
}
