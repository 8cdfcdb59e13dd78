/* The leader's end: the one connection to the server, and what comes over it told to all tabs, each thing once.
 *
 * Tabs may stand at different places. A stretch of the stream names the id that it goes on from, so a tab that has
 * missed something knows; it is served from what the tabs keep, or by going back with the queue itself: every tab drops
 * what it has had, so an older position harms nobody. */
import { Parley } from './index.js';

const UNKNOWN = ['connection_lost', 'the tab that held the connection has let go of it: the outcome is unknown'];

export class Hub {
  #options;
  #stream;
  #forbidden;
  #on;
  #core;
  #queueId;
  #after; // the id of the newest event that was told, or where the stream began
  #rewound; // while events are told again: where they had come to before
  #rewindTo;
  #topics = new Map();
  #subscribed = new Map(); // 'community/article' -> { community, undo }
  #publishing = new Set();
  #published = 0; // the newest id
  #retryInMs;
  #stopped = false;

  /* on: tell(message) to all tabs, this one too     status() it has changed
   *     error(error) in passing                     closed(error) for good */
  constructor({ options, stream, forbidden, on }) {
    this.#options = options;
    this.#stream = stream;
    this.#forbidden = forbidden;
    this.#on = on;
  }

  /* queueId and position: undefined where there was none yet. */
  start({ queueId, position }) {
    this.#queueId = queueId;
    this.#open(position);
  }

  get status() {
    const { transport, latency, communities, node, queueId } = this.#core;
    /* Whether closed is for good is decided by who hears of it. */
    const state = this.#core.state === 'closed' ? 'waiting' : this.#core.state;
    return { state, transport, latency, communities, node, queueId: queueId ?? this.#queueId, retryInMs: this.#retryInMs };
  }

  /* A stretch without events: how far the stream has come. undefined until that is known. */
  get mark() {
    const at = Math.max(this.#after ?? 0, this.#core.lastEventId ?? 0);
    if (this.#core.state === 'closed' || !at) return undefined;
    this.#after ??= at;
    return { after: this.#after, events: [], at };
  }

  narrow(topics) {
    this.#topics = topics;
    const wanted = new Map();
    /* A community that nobody narrows any more must widen again, not fall silent. */
    for (const { community } of this.#subscribed.values()) if (!topics.has(community)) wanted.set(`${community}`, { community });
    for (const [community, articles] of topics) {
      if (articles === 'all') wanted.set(`${community}`, { community });
      else for (const article of articles) wanted.set(`${community}/${article}`, { community, article });
    }
    for (const [key, topic] of wanted) {
      if (!this.#subscribed.has(key)) this.#subscribed.set(key, { ...topic, undo: this.#core.subscribe(topic, () => {}) });
    }
    for (const [key, { undo }] of this.#subscribed) {
      if (wanted.has(key)) continue;
      this.#subscribed.delete(key);
      undo();
    }
  }

  /* What the tab gets back, and what the others do: the server leaves an event out of the queue that published it. */
  publish(tab, { id, type, data, community_ids: communities }) {
    const answered = (answer) => {
      this.#publishing.delete(promise);
      this.#on.tell({ op: 'reply', tab, id, ...answer });
      this.nudge();
    };
    const promise = this.#core.publish({ type, data, communities }).then(
      (result) => {
        const community_ids = communities ?? [data.community_id];
        const event = { event_id: result.event_id, type, timestamp: new Date().toISOString(), community_ids, data };
        this.#published = Math.max(this.#published, result.event_id);
        answered({ result, event });
      },
      ({ code, message, retryAfterMs }) => {
        if (code === 'closed') [code, message] = UNKNOWN;
        answered({ error: { code, message, retry_after_ms: retryAfterMs } });
      },
    );
    this.#publishing.add(promise);
  }

  /* What was published appears in its place once the stream has come so far, and a quiet one says so only if asked. */
  nudge() {
    if (!this.#stopped && this.mark?.at < this.#published) this.#core.wake();
  }

  /* A tab has had everything up to `at` and misses what follows. */
  serve(at) {
    const stretch = this.#stream.since(at);
    if (stretch) this.#on.tell({ op: 'events', ...stretch });
    else this.#rewind(at);
  }

  /* forbid, allow, cut, wake */
  command(verb, value) {
    this.#core[verb](value);
  }

  stop({ keepQueue }) {
    this.#stopped = true;
    this.#core.close({ keepQueue });
  }

  /* Another client had the queue for a moment. */
  reopen() {
    this.#core.connect();
  }

  #open(position) {
    const { lastEventId, queue = {}, ...options } = this.#options;
    const queue_id = this.#queueId ?? queue.queue_id;
    const last_event_id = position ?? queue.last_event_id ?? lastEventId;
    this.#after = last_event_id;
    const core = new Parley({ ...options, lastEventId: last_event_id, ...(queue_id && { queue: { queue_id, last_event_id } }) });
    this.#core = core;
    this.#listen(core);
    this.#subscribed.clear();
    this.narrow(this.#topics);
    for (const name of this.#forbidden) core.forbid(name);
    core.connect();
  }

  #listen(core) {
    const on = (name, handler) => core.on(name, (value) => core === this.#core && handler(value));
    on('event', (event) => this.#event(event));
    on('gap', (gap) => this.#gap(gap));
    on('signal', (signal) => this.#on.tell({ op: 'signal', signal }));
    /* It is told just before the answer that it measures, which may move the position. */
    on('latency', () => queueMicrotask(() => this.#stopped || this.#on.status()));
    /* What closes it is told with that. */
    on('error', (error) => queueMicrotask(() => core.state === 'closed' || this.#on.error(error)));
    on('state', (change) => this.#state(change));
  }

  #state({ state, retryInMs, error }) {
    if (this.#stopped) return;
    this.#queueId = this.#core.queueId ?? this.#queueId;
    this.#retryInMs = retryInMs;
    if (state === 'closed') this.#on.closed(error);
    else this.#on.status();
  }

  #event(event) {
    const stretch = { after: this.#after ?? event.event_id - 1, events: [event], at: event.event_id };
    this.#after = event.event_id;
    if (this.#rewound <= this.#after) this.#rewound = undefined;
    this.#on.tell({ op: 'events', ...stretch });
  }

  #gap({ reason, communities, lastEventId }) {
    const back = this.#rewound;
    this.#rewound = undefined;
    if (back === undefined) {
      this.#after = lastEventId;
      this.#on.tell({ op: 'gap', gap: { reason, communities, lastEventId } });
    } else {
      /* What is gone concerns only the tabs that were behind: the others go on from where they were. */
      this.#on.tell({ op: 'gap', gap: { reason, communities, lastEventId: back }, below: back });
      this.#move(back);
    }
  }

  /* Goes back with the queue, once for all who ask meanwhile, and not before each publish has its answer. */
  async #rewind(to) {
    if (this.#rewindTo !== undefined) return void (this.#rewindTo = Math.min(this.#rewindTo, to));
    this.#rewindTo = to;
    await new Promise((resolve) => setTimeout(resolve, 50));
    await Promise.all(this.#publishing);
    const at = this.mark?.at;
    to = this.#rewindTo;
    this.#rewindTo = undefined;
    if (this.#stopped || !(to < at)) return;
    this.#rewound = at;
    this.#move(to);
  }

  #move(position) {
    const old = this.#core;
    this.#queueId = old.queueId ?? this.#queueId;
    this.#core = undefined;
    old.close({ keepQueue: true });
    this.#open(position);
  }
}
