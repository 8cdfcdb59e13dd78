// Numbered events, and whether somebody who listened saw each number exactly once and in order.
//
// A log is what one listener noticed, in its order: ['event', n, id], ['gap', reason, id], ['state', name, transport].
// Its handlers write nothing else, so the same check reads logs from Node and from a page.

import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { API_KEY, sleep } from './harness.mjs';

/** Publishes 1, 2, 3 … to a community until stopped, across restarts of the server. */
export class Numbers {
  #server;
  #community;
  #burst;
  /** May be changed while it runs. */
  everyMs;
  #stopping = new AbortController();
  #running;
  /** In order: `{ n, id }`; without `id` when nobody knows whether it was published. */
  published = [];

  /** `server` may be a function, for one that is replaced. A burst of that many numbers every so many ms. */
  constructor(server, community, { everyMs = 50, burst = 1 } = {}) {
    this.#server = typeof server === 'function' ? server : () => server;
    this.#community = community;
    this.everyMs = everyMs;
    this.#burst = burst;
  }

  /** Resolves to an id: a listener whose position it is must see all that follows, from number 1. */
  async start() {
    const { last_event_id: from } = await (await this.#call('GET', 'cursor')).json();
    this.#running = this.#run();
    return from;
  }

  async stop() {
    this.#stopping.abort();
    await this.#running;
  }

  /** Resolves when so many more have been published. */
  async more(count) {
    const target = this.published.length + count;
    while (this.published.length < target && !this.#stopping.signal.aborted) await sleep(10);
  }

  /** What a database would answer now: with the one that is being published, which is written before. */
  rows() {
    return Array.from({ length: this.published.length + 1 }, (_, i) => i + 1);
  }

  get last() {
    return this.published.at(-1);
  }

  async #run() {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      for (let i = 0; i < this.#burst; i += 1) await this.#publish(this.published.length + 1);
      await pause(this.everyMs, undefined, { signal }).catch(() => {});
    }
  }

  /* Never tried again under the same number: that one may have happened. */
  async #publish(n) {
    const event = { type: 'new_comment', community_ids: [this.#community], data: { article_id: 1 + (n % 2), n } };
    try {
      const response = await this.#call('POST', 'publish', event);
      assert.equal(response.status, 200, `publish: HTTP ${response.status}`);
      this.published.push({ n, id: (await response.json()).event_id });
    } catch (error) {
      if (error.code === 'ERR_ASSERTION') throw error;
      this.published.push({ n });
      await sleep(50);
    }
  }

  #call(method, path, body) {
    return fetch(`${this.#server().url}/realtime/${path}`, {
      method,
      headers: { 'X-API-Key': API_KEY, 'Content-Type': 'application/json' },
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(5000),
    });
  }
}

/** The log of a client in Node, kept from now on. */
export function logOf(parley) {
  const log = [];
  parley.on('event', ({ event_id: id, data }) => log.push(['event', data.n, id]));
  parley.on('gap', ({ reason, lastEventId }) => log.push(['gap', reason, lastEventId]));
  parley.on('state', ({ state, transport }) => log.push(['state', state, transport]));
  parley.on('error', (error) => log.push(['error', error.code, error.message]));
  return log;
}

export const eventsOf = (log) => log.filter(([what]) => what === 'event');
export const gapsOf = (log) => log.filter(([what]) => what === 'gap');
export const statesOf = (log) => log.filter(([what]) => what === 'state').map(([, state, transport]) => (transport ? `${state}/${transport}` : state));

/** How often a link that carried events was lost, not counting those replaced while they carried. */
export function lossesOf(log) {
  const states = statesOf(log);
  return states.filter((state, i) => i && !/^(connected|degraded)/.test(state) && /^(connected|degraded)/.test(states[i - 1])).length;
}

/** What is not right about the log, in one line; undefined when each number was seen once and in order after `from`,
 * save what a gap said was missed. */
export function faultOf(log, published, from = 0) {
  const due = published.filter(({ id }) => id === undefined || id > from);
  let position = from;
  for (const [what, n, id] of log) {
    if (what === 'gap') {
      if (id < position) return `a gap leads back from ${position} to ${id}`;
      position = id;
      due.splice(0, due.findLastIndex((number) => number.id <= id) + 1);
    } else if (what === 'event') {
      if (id <= position) return `number ${n} came with id ${id} after ${position}`;
      position = id;
      while (due.length && due[0].id === undefined && due[0].n !== n) due.shift();
      if (due[0]?.n !== n) return `number ${n} came where ${due[0]?.n ?? 'nothing more'} was due`;
      due.shift();
    }
  }
  const missing = due.filter(({ id }) => id !== undefined);
  return missing.length ? `${missing.length} numbers from ${missing[0].n} on are missing` : undefined;
}

/** Waits until the log holds the last number published, then judges it. `gaps`: how many it must hold. */
export async function assertSeen(read, numbers, { from, gaps = 0, who = 'the listener', timeoutMs = 5000 } = {}) {
  const { n: last } = numbers.published.findLast(({ id }) => id !== undefined);
  const end = Date.now() + timeoutMs;
  let log = await read();
  while (eventsOf(log).at(-1)?.[1] !== last && Date.now() < end) {
    await sleep(50);
    log = await read();
  }
  const fault = faultOf(log, numbers.published, from);
  const story = log.filter(([what]) => what !== 'event').map((entry) => entry.join(' ')).join(', ');
  assert.equal(fault, undefined, `${who}: ${fault} (of ${numbers.published.length}; ${story})`);
  assert.equal(gapsOf(log).length, gaps, `${who}: gaps (${story})`);
  return log;
}
