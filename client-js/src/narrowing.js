/* Which messages turn what the server holds for one community into what the subscribers want.
 *
 * want: Map of topic -> number of handlers; the topic '' is the whole community.
 * have: Set of the topics the server was last known to hold; undefined when unknown.
 *
 * The server turns the whole into a set of articles at the first one, and that into the whole by a subscribe without
 * one; an unsubscribe without article empties it. */
export function changes(community, want, have) {
  const message = (op, article) => ({ op, community_id: community, article_id: article });
  const whole = have?.has('');
  if (want.has('')) return whole ? [] : [message('subscribe')];
  const known = whole ? undefined : have;
  if (!want.size && !known) return [message('unsubscribe')];

  /* From an unknown state nothing is taken away first: an article that lingers costs a few events nobody listens
   * to, a set emptied and filled again could miss one. */
  const added = [...want.keys()].filter((article) => !known?.has(article)).map((article) => message('subscribe', article));
  const gone = [...(known ?? [])].filter((article) => !want.has(article)).map((article) => message('unsubscribe', article));
  return [...added, ...gone];
}

/* What the handlers of subscribe() want of each community, and how the server is brought to it.
 * ask(message): a promise of the reply, or undefined without a link. report(error): a refusal that is final. */
export function createNarrowings(ask, report) {
  const communities = new Map(); // community -> { want, have, round }

  async function narrow(community) {
    const narrowing = communities.get(community);
    if (narrowing.round) return;
    const replies = changes(community, narrowing.want, narrowing.have).map(ask);
    if (!replies[0]) return;
    const reached = new Set(narrowing.want.keys());
    const round = (narrowing.round = {});
    const outcomes = await Promise.allSettled(replies);
    if (round !== narrowing.round) return;
    const failed = outcomes.find(({ reason }) => reason)?.reason;
    narrowing.round = undefined;
    narrowing.have = failed ? undefined : reached;
    if (!failed) return narrow(community);
    /* A lost link is followed by a welcome that asks again; other refusals are final or said to be passing. */
    if (failed.code === 'connection_lost' || failed.code === 'closed') return;
    report(failed);
    if (failed.retryAfterMs) setTimeout(narrow, failed.retryAfterMs, community);
  }

  return {
    want(community, article = '', by) {
      if (!communities.has(community)) communities.set(community, { want: new Map() });
      const { want } = communities.get(community);
      const count = (want.get(article) ?? 0) + by;
      if (count) want.set(article, count);
      else want.delete(article);
      narrow(community);
    },

    /* A link is there. */
    resume: () => [...communities.keys()].forEach(narrow),

    /* The queue is another: the server knows nothing of what was said before. */
    forget() {
      for (const narrowing of communities.values()) narrowing.have = narrowing.round = undefined;
    },

    /* The articles wanted within these communities; undefined: not only articles. */
    articles(within) {
      const wanted = within?.map((community) => communities.get(community)?.want);
      if (wanted?.every((want) => want?.size && !want.has(''))) return wanted.flatMap((want) => [...want.keys()]);
    },
  };
}
