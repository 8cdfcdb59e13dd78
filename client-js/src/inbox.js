/* Where the client stands in the stream, and how the stream gets to the handlers: each event once, whichever link brings
 * it. While the application reads rows, what comes is held back until it is known from where on it counts. */
export function createInbox(dispatcher) {
  let received; // the newest id that was taken from a link
  let readers = 0; // catchup() under way,
  let snapshot = Infinity; // the least cursor of their snapshots,
  const held = []; // and what they hold back

  function advance(id) {
    if (id > (received ?? 0)) received = id;
  }

  function tell(...what) {
    if (readers) held.push(what);
    else dispatcher.emit(...what);
  }

  /* Several readers at once each know only their own snapshot: what is newer than the oldest is delivered. */
  function release(cursor) {
    snapshot = Math.min(snapshot, cursor);
    readers -= 1;
    if (readers) return;
    const least = snapshot;
    snapshot = Infinity;
    advance(least);
    for (const [name, value, before] of held.splice(0)) {
      if (name === 'gap' || value.event_id > least) tell(name, value, before);
    }
  }

  return {
    received: () => received,

    /* Everything up to here was handled. */
    position: () => dispatcher.held() ?? held[0]?.[2] ?? received,

    /* How much waits for the application. */
    pending: () => dispatcher.waiting() + held.length,

    /* Where to begin. A position once known is moved only by what was delivered. */
    begin(id) {
      received ??= id;
    },

    advance,

    take(event) {
      const before = received;
      if (event.event_id <= (before ?? 0)) return;
      /* Before the handlers: an event that breaks one must not come again. */
      received = event.event_id;
      tell('event', event, before);
    },

    skip(gap) {
      received = gap.lastEventId;
      tell('gap', gap, received);
    },

    /* Returns what lets go again, told where the rows stand; 0: they were not read. */
    hold() {
      readers += 1;
      return release;
    },
  };
}
