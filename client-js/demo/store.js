/* The page's "database": there is none behind --dev, so this browser keeps what its people have seen of a community. One
 * row per item, so that tabs writing at once do not undo each other, and one position that all of it stands at.
 *
 * A row: { kind: 'discussion' | 'comment', id, eventId, author, title?, discussion?, about?, text, at, edited? } */

const KEPT = 400;

export class Store {
  #prefix;

  constructor(community) {
    this.#prefix = `parley-demo/${community}/`;
    for (const row of this.rows().slice(0, -KEPT)) this.remove(row);
  }

  rows() {
    const rows = Object.keys(localStorage).filter((key) => key.startsWith(`${this.#prefix}row/`)).map((key) => this.#read(key));
    return rows.filter(Boolean).sort((a, b) => a.eventId - b.eventId);
  }

  save(row) {
    this.#write(this.#key(row), row);
  }

  remove(row) {
    localStorage.removeItem(this.#key(row));
  }

  /* Up to this event everything is in the rows. */
  get position() {
    return this.#read(`${this.#prefix}position`)?.lastEventId;
  }

  set position(lastEventId) {
    if (lastEventId > (this.position ?? 0)) this.reset(lastEventId);
  }

  /* After a gap the server may count from elsewhere. */
  reset(lastEventId) {
    this.#write(`${this.#prefix}position`, { lastEventId });
  }

  #key({ kind, id }) {
    return `${this.#prefix}row/${kind}/${id}`;
  }

  #read(key) {
    try {
      return JSON.parse(localStorage.getItem(key)) ?? undefined;
    } catch {
      return undefined;
    }
  }

  #write(key, value) {
    try {
      localStorage.setItem(key, JSON.stringify(value));
    } catch {
      /* Storage is full: a reload begins with less. */
    }
  }
}
