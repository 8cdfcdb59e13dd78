/* The client: what it wants, where it stands, and which link carries it. All state changes happen here; the
 * transports only report. One link is current, and at most one next is being opened: it becomes current at its
 * `welcome`, which is also when the server lets go of the old one, so that a switch has no gap. */
import { Backoff } from './backoff.js';
import { ERRORS, actionOf } from './codes.js';
import { changes, settled } from './narrowing.js';
import { TRANSPORTS } from './transports.js';

export const DEFAULT_TIMING = {
  connectMs: 10_000 /* for a socket to open */,
  welcomeMs: 5_000 /* then for its first message */,
  pingMs: 25_000 /* until the server says its own */,
  holdS: 50 /* a poll's timeout: proxies often cut at 60 s */,
  idleMs: 1_000 /* between polls that come back at once with nothing */,
  stableMs: 5_000 /* a link that lasted this long was a success */,
  requestMs: 10_000 /* for a reply */,
  ackMs: 5_000 /* from an event to its ack over WebSocket */,
  retireMs: 1_000 /* a replaced WebSocket is still listened to, for replies */,
  probeMs: 30_000 /* the first new try of a blocked WebSocket; doubles */,
  probeMaxMs: 600_000,
  backoffMs: 500,
  backoffMaxMs: 30_000,
};

/* Sockets in a row that failed while plain HTTP worked, until WebSocket counts as blocked. */
const BLOCKED_AFTER = 3;

/* What a socket ends with when something between it and the server, not the server, has ended it. */
const CUT = new Set([1005, 1006]);

export class ParleyError extends Error {
  constructor(code, message, extra) {
    super(message ?? code);
    this.name = 'ParleyError';
    this.code = code;
    Object.assign(this, extra);
  }
}

export class Parley {
  #url;
  #getToken;
  #WebSocket;
  #fetch;
  #timing;
  #random;
  #backoff;
  #transports; // what the application and the platform allow, in order of preference
  #offer; // what the server offers, likewise
  #forbidden = new Set();
  #listeners = new Map();
  #narrowings = new Map(); // community -> { want, have }
  #requests = new Map(); // id -> { message, link, settle }
  #timers = new Map();
  #state = 'idle';
  #token;
  #queueId;
  #lastEventId;
  #ackedId;
  #link;
  #next;
  #attempt = 0; // names the newest attempt: an older one that wakes up finds itself stale
  #requestId = 0;
  #goawayAt = 0;
  #blocked = false;
  #failures = 0;
  #probes = 0;
  #second = new Set(); // actions that are allowed once until a link has been stable

  constructor(options) {
    const { protocol } = new URL(options.url);
    if (!/^https?:$/.test(protocol)) throw new TypeError('url: http: or https:, the transports choose their own');
    if (!options.getToken && !options.queue) throw new TypeError('getToken or queue is needed');
    this.#url = options.url.replace(/\/+$/, '');
    this.#getToken = options.getToken;
    this.#queueId = options.queue?.queue_id;
    this.#lastEventId = options.queue?.last_event_id ?? options.lastEventId;
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    this.#fetch = options.fetch ?? globalThis.fetch;
    this.#timing = { ...DEFAULT_TIMING, ...options.timing };
    this.#random = options.random ?? Math.random;
    this.#backoff = new Backoff({ baseMs: this.#timing.backoffMs, capMs: this.#timing.backoffMaxMs, random: this.#random });
    const usable = { websocket: this.#WebSocket, longpoll: this.#fetch };
    this.#transports = (options.transports ?? ['websocket', 'longpoll']).filter((name) => usable[name]);
  }

  get state() {
    return this.#state;
  }

  get transport() {
    return this.#link?.name;
  }

  get lastEventId() {
    return this.#lastEventId;
  }

  get queueId() {
    return this.#queueId;
  }

  on(name, handler) {
    const entry = { handler };
    if (!this.#listeners.has(name)) this.#listeners.set(name, new Set());
    this.#listeners.get(name).add(entry);
    return () => void this.#listeners.get(name).delete(entry);
  }

  connect() {
    if (this.#state === 'idle' || this.#state === 'closed') this.#open();
  }

  close({ keepQueue = false } = {}) {
    this.#shut(keepQueue ? 4000 : 1000);
    if (!keepQueue && this.#getToken) this.#queueId = undefined;
    this.#setState('closed');
  }

  subscribe({ community, article }, handler) {
    const matches = (event) =>
      event.community_ids?.includes(community) && (article === undefined || event.data?.article_id === article);
    const off = this.on('event', (event) => matches(event) && handler(event));
    this.#want(community, article ?? '', 1);
    let undone = false;
    return () => {
      if (undone) return;
      undone = true;
      off();
      this.#want(community, article ?? '', -1);
    };
  }

  publish({ type, data, communities }) {
    return this.#request({ op: 'publish', type, data, community_ids: communities });
  }

  /* For demonstrations and tests: as if the network did not let this transport through. */
  forbid(name) {
    this.#forbidden.add(name);
    if (this.#link?.name === name || this.#next?.name === name) this.#restart();
  }

  allow(name) {
    this.#forbidden.delete(name);
    if (name === 'websocket') this.#trust(0);
    this.#prefer();
  }

  /* For demonstrations and tests: drops the current link as a broken network would. */
  cut() {
    const link = this.#link;
    if (!link) return;
    link.drop(4000);
    this.#lost(link, { close: 1006, message: 'cut' });
  }

  /* ------------------------------------------------------------------------------------------- links */

  /* Opens the next link; the current one, if any, goes on until it is welcomed. */
  async #open() {
    this.#cancel('retry', 'switch');
    const name = this.#pick();
    if (!name) return this.#stop(new ParleyError('no_transport', 'no transport is left: the server, the application or forbid() rules each out'));
    const attempt = ++this.#attempt;
    this.#next?.drop(4000);
    this.#next = undefined;
    if (!this.#link) this.#setState('connecting');
    try {
      if (this.#getToken) this.#token ??= await this.#getToken();
    } catch (error) {
      if (attempt !== this.#attempt) return;
      this.#report(new ParleyError('get_token', 'getToken failed', { cause: error }));
      return this.#retry();
    }
    if (attempt === this.#attempt) this.#launch(name);
  }

  #launch(name) {
    const env = {
      url: this.#url,
      WebSocket: this.#WebSocket,
      fetch: this.#fetch,
      timing: this.#timing,
      token: this.#token,
      queueId: this.#queueId,
      position: () => this.#lastEventId,
    };
    const link = { name, since: 0, heir: !!this.#link };
    this.#next = link;
    try {
      Object.assign(link, TRANSPORTS[name](env, {
        claim: () => this.#link?.pause(true),
        message: (message) => this.#receive(link, message),
        close: (why) => this.#lost(link, why),
      }));
    } catch (error) {
      link.drop = () => {};
      this.#lost(link, { close: 1006, message: error.message });
    }
  }

  #welcome(link, message) {
    const old = this.#link;
    this.#link = link;
    this.#next = undefined;
    link.since = Date.now();
    if (message.resumed === false || message.queue_id !== this.#queueId) this.#forgetNarrowing();
    this.#queueId = message.queue_id;
    /* A known position is never moved by a welcome: what lies between was not delivered yet. */
    this.#lastEventId ??= message.last_event_id;
    if (old) this.#retire(old);
    this.#goawayAt = 0;
    if (link.name === 'websocket' && this.#blocked) this.#trust(BLOCKED_AFTER - 1);
    this.#after('stable', this.#timing.stableMs, () => this.#settle());
    this.#setState('connected');
    if (this.#link !== link) return;
    for (const [id, request] of this.#requests) if (!request.link) this.#send(id, request);
    for (const community of this.#narrowings.keys()) this.#narrow(community);
    this.#offered(message.transports ?? this.#offer);
  }

  /* The link has lasted: what went before it no longer counts. */
  #settle() {
    this.#backoff.reset();
    this.#second.clear();
    if (this.#link?.name === 'websocket') {
      this.#failures = 0;
      this.#probes = 0;
    }
  }

  #retire(old) {
    const discard = () => {
      old.drop(4000);
      this.#failRequests(old);
    };
    /* A poll left running would take the queue back; a socket may still bring the reply to a publish. */
    if (old.name === 'websocket') setTimeout(discard, this.#timing.retireMs);
    else old.drop(4000);
  }

  #lost(link, why) {
    this.#failRequests(link);
    if (link === this.#next) {
      this.#next = undefined;
      if (this.#link) return this.#nextFailed(link, why);
    } else if (link === this.#link) {
      this.#link = undefined;
      this.#cancel('stable', 'ack');
      /* The one being opened decides; if it has just replaced this one, nobody needs to see a change. */
      if (this.#next) return why.close === 4409 ? undefined : this.#setState('connecting');
    } else return;
    this.#decide(link, why);
  }

  /* The current link lives: no hurry, and nothing to learn but that WebSocket is still blocked. */
  #nextFailed(link, why) {
    this.#link.pause(false);
    if (actionOf(why.close, why.error) === 'token') this.#token = undefined;
    if (link.name === 'websocket' && this.#link.name === 'longpoll') this.#block();
    else this.#after('switch', this.#backoff.next() + (why.retryAfterMs ?? 0), () => this.#prefer(true));
  }

  #decide(link, why) {
    const action = this.#action(link, why);
    const error = new ParleyError(why.error ?? `closed_${why.close}`, why.message ?? `the link was closed with ${why.close}`, { close: why.close });
    switch (action) {
      case 'token':
        this.#token = undefined;
        return this.#getToken ? this.#once(action, error) : this.#stop(error);
      case 'again':
        return this.#once(action, error);
      case 'register':
        this.#queueId = undefined;
        return this.#getToken ? this.#once(action, undefined) : this.#stop(error);
      case 'once':
        if (this.#second.has(action)) return this.#stop(error);
        this.#second.add(action);
        this.#report(error);
        return this.#retry();
      case 'transport':
        this.#offer = why.error === 'transport_gone' ? ['websocket'] : this.#usable().filter((name) => name !== link.name);
        return this.#pick() ? this.#retry(why.retryAfterMs) : this.#stop(error);
      case 'stop':
        return this.#stop(error);
      default:
        if (this.#suspect(link, why)) return this.#examine();
        /* Long-poll does not get through either: then it was not WebSocket that is blocked. */
        if (this.#blocked && !link.since) this.#trust(0);
        return this.#retry(why.retryAfterMs);
    }
  }

  #action(link, { close, error }) {
    if (error?.startsWith('transport_')) return 'transport';
    /* A poll that was on its way when this link took over from it has arrived late: nobody else wants the queue. */
    if (close === 4409 && link.heir) return 'again';
    return actionOf(close, error);
  }

  /* At once the first time. The second time in a row: an error that is given ends it, else backoff. */
  #once(action, error) {
    if (!this.#second.has(action)) {
      this.#second.add(action);
      return this.#open();
    }
    return error ? this.#stop(error) : this.#retry();
  }

  #retry(minMs = 0) {
    const left = this.#goawayAt - Date.now();
    const delayMs = left > 0 ? left : minMs + this.#backoff.next();
    this.#after('retry', delayMs, () => this.#open());
    this.#setState('waiting', { retryInMs: delayMs });
  }

  /* Without a link of any kind: forgets the attempt under way and begins anew. */
  #restart() {
    const link = this.#link;
    this.#link = undefined;
    this.#next?.drop(4000);
    this.#next = undefined;
    if (link) {
      link.drop(4000);
      this.#failRequests(link);
    }
    this.#cancel('stable', 'ack');
    this.#open();
  }

  #stop(error) {
    if (error) this.#report(error);
    this.#shut(4000);
    this.#setState('closed', { error });
  }

  #shut(close) {
    this.#attempt++;
    this.#link?.drop(close);
    this.#next?.drop(close);
    this.#link = this.#next = undefined;
    this.#cancel(...this.#timers.keys());
    for (const id of [...this.#requests.keys()]) this.#answer(id, { code: 'closed', message: 'the client was closed' });
    this.#forgetNarrowing();
    this.#goawayAt = 0;
    this.#second.clear();
    this.#backoff.reset();
  }

  /* --------------------------------------------------------------------------------- which transport */

  #usable() {
    const offered = this.#offer?.filter((name) => this.#transports.includes(name)) ?? this.#transports;
    return offered.filter((name) => !this.#forbidden.has(name));
  }

  #pick() {
    const usable = this.#usable();
    return usable.find((name) => name !== 'websocket' || !this.#blocked) ?? usable[0];
  }

  #offered(transports) {
    this.#offer = transports;
    this.#prefer();
  }

  /* Opens another link beside the current one if a better transport is to be had, or if it must be anew. */
  #prefer(anew = false) {
    if (!this.#link || this.#next) return;
    const name = this.#pick();
    if (name && (anew || name !== this.#link.name)) this.#open();
  }

  /* A socket that never said anything, or died young, may have met a proxy. */
  #suspect(link, why) {
    if (link.name !== 'websocket' || !CUT.has(why.close) || !this.#usable().includes('longpoll')) return false;
    return !link.since || Date.now() - link.since < this.#timing.stableMs;
  }

  /* Only plain HTTP that works tells a blocked WebSocket from a server that is away. */
  async #examine() {
    const attempt = this.#attempt;
    this.#setState('waiting', { retryInMs: undefined });
    const there = await this.#answers();
    if (attempt !== this.#attempt) return;
    if (!there) return this.#retry();
    this.#failures += 1;
    if (this.#failures < BLOCKED_AFTER) return this.#retry();
    this.#block();
    this.#open();
  }

  async #answers() {
    const deadline = new AbortController();
    const timer = setTimeout(() => deadline.abort(), this.#timing.connectMs);
    const fetch = this.#fetch;
    try {
      const { status } = await fetch(`${this.#url}/realtime/health`, { cache: 'no-store', signal: deadline.signal });
      return status < 500;
    } catch {
      return false;
    } finally {
      clearTimeout(timer);
    }
  }

  #block() {
    this.#blocked = true;
    const { probeMs, probeMaxMs } = this.#timing;
    const interval = Math.min(probeMaxMs, probeMs * 2 ** this.#probes++);
    this.#after('probe', interval * (0.5 + this.#random() / 2), () => this.#probe());
  }

  #probe() {
    this.#trust(BLOCKED_AFTER - 1);
    this.#prefer();
  }

  /* WebSocket is worth a try again; so many failures are remembered against it. */
  #trust(failures) {
    this.#cancel('probe');
    this.#blocked = false;
    this.#failures = failures;
  }

  /* ---------------------------------------------------------------------------------------- messages */

  #receive(link, message) {
    /* Replies are matched by id; a link that was replaced may still bring some. */
    if (message.op === 'reply') return this.#replied(message);
    if (link === this.#next && message.op === 'welcome') return this.#welcome(link, message);
    if (link !== this.#link) return;
    switch (message.op) {
      case 'events':
        return this.#events(link, message);
      case 'catchup_required':
        this.#lastEventId = message.last_event_id;
        return this.#emit('gap', { reason: message.reason, communities: message.communities, lastEventId: message.last_event_id });
      case 'signal': {
        const { op, ...signal } = message;
        return this.#emit('signal', signal);
      }
      case 'goaway':
        return this.#goaway(message);
      case 'transports':
        return this.#offered(message.transports);
      case 'ping':
      case 'pong':
        return this.#advance(message.last_event_id);
    }
  }

  #events(link, { events = [], last_event_id }) {
    for (const event of events) {
      if (event.event_id <= (this.#lastEventId ?? 0)) continue;
      /* Before the handlers: an event that breaks one must not come again. */
      this.#lastEventId = event.event_id;
      this.#emit('event', event);
      if (link !== this.#link) return;
    }
    this.#advance(last_event_id);
    if (events.length && link.name === 'websocket' && !this.#timers.has('ack')) {
      this.#after('ack', this.#timing.ackMs, () => this.#ack());
    }
  }

  #advance(id) {
    if (id > (this.#lastEventId ?? 0)) this.#lastEventId = id;
  }

  #ack() {
    if (this.#lastEventId === this.#ackedId) return;
    this.#ackedId = this.#lastEventId;
    this.#link?.send({ op: 'ack', event_id: this.#ackedId });
  }

  #goaway({ reconnect_after_ms = 0, transports }) {
    if (Array.isArray(transports)) this.#offer = transports;
    this.#goawayAt = Date.now() + reconnect_after_ms;
    this.#after('switch', reconnect_after_ms, () => this.#prefer(true));
  }

  /* ---------------------------------------------------------------------------------------- requests */

  #request(message) {
    if (this.#state === 'closed') return Promise.reject(new ParleyError('closed', 'the client is closed'));
    const id = ++this.#requestId;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#answer(id, { code: 'timeout', message: 'no reply came in time' }), this.#timing.requestMs);
      const settle = (error, result) => {
        clearTimeout(timer);
        if (!error) return resolve(result);
        reject(new ParleyError(error.code, error.message, { retryAfterMs: error.retry_after_ms }));
      };
      const request = { message: { ...message, id }, settle };
      this.#requests.set(id, request);
      if (this.#link) this.#send(id, request);
    });
  }

  #send(id, request) {
    request.link = this.#link;
    this.#link.send(request.message);
  }

  #replied({ id, result, error }) {
    if (id === undefined) return error && this.#report(new ParleyError(error.code, error.message));
    this.#answer(id, error, result);
  }

  #answer(id, error, result) {
    const request = this.#requests.get(id);
    this.#requests.delete(id);
    request?.settle(error, result);
  }

  /* What was sent on a link that ended may have been done or not: only the application can decide to repeat it. */
  #failRequests(link) {
    for (const [id, request] of [...this.#requests]) {
      if (request.link === link) this.#answer(id, { code: 'connection_lost', message: 'the connection was lost before the reply: the outcome is unknown' });
    }
  }

  /* --------------------------------------------------------------------------------------- narrowing */

  #want(community, topic, by) {
    const narrowing = this.#narrowings.get(community) ?? { want: new Map(), have: undefined };
    this.#narrowings.set(community, narrowing);
    const count = (narrowing.want.get(topic) ?? 0) + by;
    if (count) narrowing.want.set(topic, count);
    else narrowing.want.delete(topic);
    this.#narrow(community);
  }

  async #narrow(community) {
    const narrowing = this.#narrowings.get(community);
    if (!this.#link || narrowing.have === 'pending') return;
    const messages = changes(community, narrowing.want, narrowing.have);
    if (!messages.length) return;
    const reached = settled(narrowing.want);
    narrowing.have = 'pending';
    const round = (narrowing.round = {});
    const outcomes = await Promise.allSettled(messages.map((message) => this.#request(message)));
    if (round !== narrowing.round) return;
    const failed = outcomes.find(({ status }) => status === 'rejected')?.reason;
    narrowing.have = failed ? undefined : reached;
    if (!failed) return this.#narrow(community);
    /* A lost link is followed by a welcome that asks again; other refusals are final or said to be passing. */
    if (failed.code === 'connection_lost' || failed.code === 'closed') return;
    this.#report(failed);
    if (ERRORS[failed.code]?.[2] === 'backoff') setTimeout(() => this.#narrow(community), failed.retryAfterMs ?? this.#timing.requestMs);
  }

  #forgetNarrowing() {
    for (const narrowing of this.#narrowings.values()) {
      narrowing.have = undefined;
      narrowing.round = undefined;
    }
  }

  /* --------------------------------------------------------------------------------------------- rest */

  #setState(state, detail) {
    if (state === this.#state && state !== 'waiting' && state !== 'connected') return;
    this.#state = state;
    this.#emit('state', { state, transport: this.transport, ...detail });
  }

  #emit(name, value) {
    for (const { handler } of [...(this.#listeners.get(name) ?? [])]) {
      try {
        handler(value);
      } catch (error) {
        this.#report(new ParleyError('handler', `a handler of '${name}' threw`, { cause: error }), name);
      }
    }
  }

  #report(error, from) {
    if (from === 'error' || !this.#listeners.get('error')?.size) console.error(error);
    else this.#emit('error', error);
  }

  #after(name, ms, fn) {
    this.#cancel(name);
    this.#timers.set(name, setTimeout(() => (this.#timers.delete(name), fn()), ms));
  }

  #cancel(...names) {
    for (const name of names) {
      clearTimeout(this.#timers.get(name));
      this.#timers.delete(name);
    }
  }
}
