/* Which tab leads: the one that holds the Web Lock of the name. The browser passes it on at once when a tab is closed
 * or crashes. A frozen tab keeps it, so the others listen for signs of life and take the lock away when there are none. */

export const DEFAULT_PULSE = {
  beatMs: 400 /* between two signs of life */,
  silentMs: 600 /* without one, the leader is asked for it: timers of hidden pages are slow, answers are not */,
  deadMs: 400 /* without an answer, it is taken for frozen */,
  staggerMs: 100 /* at most, so that not all seize at once; as much again later where nobody looks */,
};

/* Timers of hidden pages come up to a second late; one that is later has slept. */
const SLEPT_MS = 2_000;

export class Election {
  #name;
  #presence;
  #locks;
  #on;
  #queued; // aborts the request that waits for its turn
  #held; // { release } while this tab leads, or is about to
  #standing = false;

  /* on: lead() this tab leads from now on; lost() another has taken the lead. presence: a lock that this tab holds. */
  constructor({ name, presence, locks, on }) {
    this.#name = name;
    this.#presence = presence;
    this.#locks = locks;
    this.#on = on;
  }

  stand() {
    this.#standing = true;
    this.#queued = new AbortController();
    this.#request({ signal: this.#queued.signal });
  }

  /* Takes the lead from a tab that gives no sign of life. */
  seize() {
    this.#queued.abort();
    this.#request({ steal: true });
  }

  resign() {
    this.#standing = false;
    this.#queued?.abort();
    this.#held?.release();
    this.#held = undefined;
  }

  #request(options) {
    let turn;
    const granted = () =>
      new Promise((release) => {
        turn = this.#held = { release };
        this.#confirm(turn);
      });
    this.#locks.request(this.#name, options, granted).catch(() => {
      if (!turn || turn !== this.#held) return;
      this.#held = undefined;
      this.#on.lost();
      if (this.#standing) this.stand();
    });
  }

  /* A tab that slept may be told of its turn long after others have taken that away. */
  async #confirm(turn) {
    const { held } = await this.#locks.query();
    const holder = (name) => held.find((lock) => lock.name === name)?.clientId;
    if (turn !== this.#held || holder(this.#name) !== holder(this.#presence)) return;
    this.#queued.abort();
    this.#on.lead();
  }
}

/* Tells when the leader has been silent for too long. */
export class Watch {
  #pulse;
  #on;
  #timer;
  #late = false; // the timer before was

  /* on: ask() for a sign of life; dead() none came; hidden() whether nobody looks at this tab */
  constructor(pulse, on) {
    this.#pulse = pulse;
    this.#on = on;
  }

  /* A sign of life, or of another tab that is about to lead. */
  heard() {
    this.#late = false;
    this.#listen();
  }

  stop() {
    clearTimeout(this.#timer);
  }

  /* There is reason to ask now. */
  check() {
    this.#doubt();
  }

  #listen() {
    this.#wait(this.#pulse.silentMs, () => this.#doubt());
  }

  #doubt() {
    this.#on.ask();
    const { deadMs, staggerMs } = this.#pulse;
    const stagger = (Math.random() + (this.#on.hidden() ? 1 : 0)) * staggerMs;
    this.#wait(deadMs + stagger, () => this.#on.dead());
  }

  /* A timer that comes late says that this tab slept: what others have said meanwhile is still to be read. Late again,
   * and not a word in between: the timers of a page that nobody looks at come once a minute, messages always. */
  #wait(ms, then) {
    clearTimeout(this.#timer);
    const due = Date.now() + ms;
    this.#timer = setTimeout(() => {
      const late = Date.now() - due > SLEPT_MS;
      const slept = late && !this.#late;
      this.#late = late;
      if (slept) this.#listen();
      else then();
    }, ms);
  }
}
