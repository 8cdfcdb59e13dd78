/* Values to handlers. What one handler does never reaches another: a throw or a rejection is reported, and a handler
 * that returns a promise gets its next value when that has settled, in order, while the others go on. */

export class ParleyError extends Error {
  constructor(code, message, extra) {
    super(message || code);
    Object.assign(this, { name: 'ParleyError', code }, extra);
  }
}

/* An undo that runs once: when it is called, or when the signal aborts or has done so. */
export function undoable(undo, signal) {
  const once = () => {
    signal?.removeEventListener('abort', once);
    undo?.();
    undo = undefined;
  };
  if (signal?.aborted) once();
  else signal?.addEventListener('abort', once);
  return once;
}

/* onDrain() is told each time a value that had to wait is done with. */
export function createDispatcher(onDrain) {
  const handlers = new Map(); // name -> Set of { handler, waiting, busy, before }
  let waiting = 0;

  function call(name, entry, value, before) {
    const failed = (cause) => report(new ParleyError('handler', name, { cause }), name);
    try {
      const result = entry.handler(value);
      if (typeof result?.then !== 'function') return;
      entry.busy = true;
      entry.before = before;
      result.then(undefined, failed).then(() => next(name, entry));
    } catch (error) {
      failed(error);
    }
  }

  function next(name, entry) {
    entry.busy = false;
    while (!entry.busy && entry.waiting.length) {
      waiting -= 1;
      call(name, entry, ...entry.waiting.shift());
    }
    onDrain?.();
  }

  /* Told to the handlers of 'error', to the console when there is none. */
  function report(error, from) {
    if (from === 'error' || !handlers.get('error')?.size) console.error(error);
    else emit('error', error);
  }

  /* before: where the client stood before this value, for `held`. */
  function emit(name, ...what) {
    for (const entry of [...(handlers.get(name) ?? [])]) {
      /* One that was undone by another a moment ago is not called any more. */
      if (!handlers.get(name).has(entry)) continue;
      if (entry.busy) waiting += !!entry.waiting.push(what);
      else call(name, entry, ...what);
    }
  }

  return {
    on(name, handler, { signal } = {}) {
      const entry = { handler, waiting: [] };
      const all = handlers.get(name) ?? new Set();
      handlers.set(name, all);
      all.add(entry);
      return undoable(() => {
        all.delete(entry);
        waiting -= entry.waiting.splice(0).length;
        onDrain?.();
      }, signal);
    },

    emit,
    report,

    /* How many values wait for handlers. */
    waiting: () => waiting,

    /* The least `before` of the events that are not done with; undefined when all are. */
    held() {
      let least;
      for (const { busy, before } of handlers.get('event') ?? []) if (busy && !(before >= least)) least = before;
      return least;
    },
  };
}

/* Whether subscribe(topic) is told of this event. */
export function matches({ community, article }, event) {
  return !!event.community_ids?.includes(community) && (article === undefined || event.data?.article_id === article);
}
