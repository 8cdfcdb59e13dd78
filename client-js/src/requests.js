/* Messages that get exactly one reply, matched by id, whichever link brings it. */
import { ParleyError, undoable } from './dispatch.js';

export function createRequests(timeoutMs) {
  const open = new Map(); // id -> { message, link, settle }
  let lastId = 0;

  function fail(code, which) {
    for (const request of open.values()) if (which(request)) request.settle({ error: { code } });
  }

  function flush(link) {
    for (const request of open.values()) {
      if (request.link) continue;
      request.link = link;
      link.send(request.message);
    }
  }

  return {
    /* Sent on this link, or on the next that flush() is told of. */
    ask: (message, link, signal) =>
      new Promise((resolve, reject) => {
        const id = ++lastId;
        const settle = ({ error, result }) => {
          if (error) reject(new ParleyError(error.code, error.message, { retryAfterMs: error.retry_after_ms }));
          else resolve(result);
          undo();
        };
        const timer = setTimeout(settle, timeoutMs, { error: { code: 'timeout' } });
        open.set(id, { message: { ...message, id }, settle });
        const undo = undoable(() => (clearTimeout(timer), open.delete(id), reject(signal?.reason)), signal);
        if (link) flush(link);
      }),

    flush,
    answer: (reply) => open.get(reply.id)?.settle(reply),

    /* What was sent on a link that ended may have been done or not: only the application can decide to repeat it. */
    lose: (link) => fail('connection_lost', (request) => request.link === link),
    close: () => fail('closed', () => true),
  };
}
