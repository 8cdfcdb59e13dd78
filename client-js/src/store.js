/* The queue and the position, kept where a reload finds them. While the page lives the entry is marked open: a page
 * that finds it so was copied from one that still uses the queue, or follows one that crashed. It goes on from the
 * position with a queue of its own, since two pages on one queue would throw each other out. */
export function createStore(storage, key, failed) {
  const attempt = (fn) => async (...values) => {
    try {
      return await fn(...values);
    } catch (cause) {
      failed(cause);
    }
  };

  return {
    /* Resolves to { queueId?, lastEventId? }, or to nothing. */
    load: attempt(async () => {
      const { queueId, lastEventId, open } = JSON.parse((await storage.getItem(key)) ?? '{}');
      return { queueId: open ? undefined : queueId, lastEventId };
    }),

    /* An entry without a queue is removed. */
    save: attempt((queueId, lastEventId, open) =>
      queueId ? storage.setItem(key, JSON.stringify({ queueId, lastEventId, open })) : storage.removeItem(key),
    ),
  };
}
