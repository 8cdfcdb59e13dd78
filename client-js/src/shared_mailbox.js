/* A tab's end. In every tab runs a client of its own, so that handlers, positions, narrowing and catching up are those
 * of the core; only its socket is not one: it leads here. To that client the mailbox is the server, and its link never
 * fails, whoever leads at the moment. */
import { narrowed } from './shared_topics.js';

/* No silence on this link means anything; still less than a timer can count. */
const NEVER_MS = 2 ** 29;

/* Nothing is written down between a tab's client and its mailbox. */
const asIs = { name: 'json', contentType: 'application/json', binary: false, encode: (message) => message, decode: (message) => message };

export class Mailbox {
  topics = new Map();
  #on;
  #socket;
  #hello;
  #at; // what the client has been handed; undefined until it is welcomed
  #echoes = []; // events that the stream will not bring, until it has come that far
  #own = new Set(); // ids this tab has published: they do not come back to it

  /* on: hello({ queue_id, last_event_id }) the client wants events      narrow() topics has changed
   *     publish(message)                                                 need(id) events after this id are missing */
  constructor(on) {
    this.#on = on;
  }

  /* What the tab's client is made with. */
  get options() {
    const timing = { connectMs: NEVER_MS, welcomeMs: NEVER_MS, pingMs: NEVER_MS, wakeMs: NEVER_MS, latencyMs: NEVER_MS };
    return { transports: ['websocket'], WebSocket: this.#socketClass(), codec: asIs, timing };
  }

  get at() {
    return this.#at;
  }

  /* The queue is known, and that the stream has come to `at`: where a client begins that has no position. */
  open({ queueId, at, communities, node }) {
    if (!this.#hello || this.#at !== undefined) return;
    this.#at = this.#hello.last_event_id ?? at;
    const welcome = { queue_id: queueId, last_event_id: this.#at, resumed: true, communities, node };
    this.#send({ op: 'welcome', ...welcome, transports: ['websocket'], ping_interval_ms: NEVER_MS });
  }

  /* A stretch of the stream. What the client has had is dropped; a stretch that begins later than that is of no use. */
  take({ after, events, at }) {
    if (this.#at === undefined) return;
    if (after > this.#at) return this.#on.need(this.#at);
    const end = Math.max(this.#at, at);
    const due = this.#echoes.filter(({ event_id: id }) => id <= end);
    this.#echoes = this.#echoes.filter((event) => !due.includes(event));
    const fresh = [...events, ...due].filter(({ event_id: id }) => id > this.#at && !this.#own.has(id));
    if (end === this.#at) return;
    this.#at = end;
    for (const id of this.#own) if (id <= end) this.#own.delete(id);
    this.#send({ op: 'events', events: inOrder(fresh), last_event_id: end });
  }

  /* What another tab has published: the queue does not bring it. */
  echo(event) {
    if (!(event.event_id <= this.#at)) return void this.#echoes.push(event);
    /* Too late for its place in the order: then its rows are to be read again. */
    this.gap({ reason: 'gap', communities: event.community_ids, lastEventId: this.#at });
  }

  gap({ reason, communities, lastEventId }) {
    if (this.#at === undefined) return;
    this.#at = lastEventId;
    this.#send({ op: 'catchup_required', catchup_required: true, reason, communities, last_event_id: lastEventId });
  }

  signal(signal) {
    if (this.#at !== undefined) this.#send({ ...signal, op: 'signal' });
  }

  reply({ id, result, error }) {
    if (result) this.#own.add(result.event_id);
    this.#send({ op: 'reply', id, result, error });
  }

  #send(data) {
    this.#socket?.onmessage?.({ data });
  }

  #receive(socket, message) {
    if (socket !== this.#socket) return;
    switch (message.op) {
      case 'hello':
        this.#hello = message;
        return this.#on.hello(message);
      case 'ping':
        return this.#send({ op: 'pong', last_event_id: this.#at });
      case 'publish':
        return this.#on.publish(message);
      case 'subscribe':
      case 'unsubscribe':
        this.topics = narrowed(this.topics, message);
        this.#send({ op: 'reply', id: message.id, result: {} });
        return this.#on.narrow();
    }
  }

  #attach(socket) {
    this.#socket = socket;
    this.#hello = this.#at = undefined;
  }

  #socketClass() {
    const mailbox = this;
    return class {
      readyState = 0;

      constructor() {
        mailbox.#attach(this);
        queueMicrotask(() => {
          if (this.readyState) return;
          this.readyState = 1;
          this.onopen?.({});
        });
      }

      send(message) {
        /* Answers come when send() has returned, as from any other socket. */
        queueMicrotask(() => mailbox.#receive(this, message));
      }

      close() {
        this.readyState = 3;
        if (mailbox.#socket === this) mailbox.#attach(undefined);
      }
    };
  }
}

function inOrder(events) {
  return events.sort((a, b) => a.event_id - b.event_id);
}
