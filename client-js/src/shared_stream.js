/* The newest part of the queue's stream, as every tab keeps it: whichever leads next goes on from its end, and serves
 * those that are behind without asking the server again.
 *
 * A stretch { after, events, at } says: `events` are all there is between the ids `after` and `at`. */

const KEPT = 256;

export class Stream {
  /* Everything in (floor, at] is known; at is undefined until the first stretch. */
  at;
  #floor;
  #events = [];

  /* Joins a stretch to the end. One that leaves a hole makes what was known before useless. */
  add({ after, events, at }) {
    if (!(after <= this.at)) this.reset(after);
    this.#insert(...events.filter(({ event_id: id }) => id > this.at));
    this.at = Math.max(this.at, at);
  }

  /* An event that the server leaves out of the stream; it is in place once the stream has come that far. */
  put(event) {
    if (event.event_id > this.#floor) this.#insert(event);
  }

  /* What comes after this id, as a stretch; undefined when that is no longer known. */
  since(id) {
    if (!(id >= this.#floor)) return undefined;
    const events = this.#events.filter(({ event_id }) => event_id > id && event_id <= this.at);
    return { after: id, events, at: this.at };
  }

  reset(at) {
    this.at = this.#floor = at;
    this.#events = [];
  }

  #insert(...events) {
    this.#events.push(...events);
    this.#events.sort((a, b) => a.event_id - b.event_id);
    for (const { event_id } of this.#events.splice(0, this.#events.length - KEPT)) this.#floor = event_id;
  }
}
