/* The client: what it wants, and which link carries it. Where it stands is inbox.js. All changes of state happen here; the
 * other parts only report. One link is current, and at most one next is being opened: it becomes current at its `welcome`, which
 * is also when the server lets go of the old one, so that a switch has no gap.
 *
 * A closure rather than a class with private fields: its names shrink to a letter each, which is half a kilobyte. */
import { createBackoff } from './backoff.js';
import { createChoice } from './choice.js';
import { json } from './codec_json.js';
import { ParleyError, createDispatcher, matches, undoable } from './dispatch.js';
import { http } from './http.js';
import { createInbox } from './inbox.js';
import { createNarrowings } from './narrowing.js';
import { watchPage } from './page.js';
import { createRequests } from './requests.js';
import { createRhythm } from './rhythm.js';
import { reaction } from './rules.js';
import { createSource, lifetimeMs } from './source.js';
import { createStore } from './store.js';
import { stream } from './stream.js';
import { createTimers } from './timers.js';
import { DEFAULT_TIMING } from './timing.js';
import { TRANSPORTS } from './transports.js';

const HANDED_OVER = 4000;
const ENDED = 1000;

export class Parley {
  constructor(options) {
    return Object.setPrototypeOf(client(options), new.target.prototype);
  }
}

function client({
  url,
  getToken,
  register,
  queue,
  lastEventId,
  transports = ['websocket', 'longpoll'],
  codec = json,
  storage,
  storageKey = `parley:${url}`,
  maxPending = 1000,
  signal,
  WebSocket = globalThis.WebSocket,
  fetch = globalThis.fetch,
  page = globalThis.addEventListener && globalThis,
  random = Math.random,
  timing: wanted,
}) {
  if (!/^https?:\/\/./.test(url) || !(getToken || register || queue)) {
    throw new TypeError('url (http) and getToken, register or queue are needed');
  }

  const timing = { ...DEFAULT_TIMING, ...wanted };
  const rhythm = createRhythm(timing);
  const backoff = createBackoff(timing.backoffMs, timing.backoffMaxMs, random);
  const timers = createTimers();
  const dispatcher = createDispatcher(drained);
  const { on, emit, report } = dispatcher;
  const { received, position, pending, begin, advance, take, skip, hold } = createInbox(dispatcher);
  const requests = createRequests(timing.requestMs);
  const narrowings = createNarrowings((message) => current && ask(message), report);
  const tokens = getToken && createSource(getToken, 'get_token', 'no_token');
  const registrations = register && createSource(register, 'register', 'no_queue');
  const store = storage && createStore(storage, storageKey, (cause) => report(new ParleyError('storage', '', { cause })));
  const usable = transports.filter((name) => (name === 'websocket' ? WebSocket : fetch));
  const choice = createChoice(usable, timing, random, () => prefer());
  const env = { url: url.replace(/\/+$/, ''), codec, WebSocket, fetch, timing, rhythm, token: () => tokens?.value, position: received };

  let state = 'idle';
  let told; // the last change of it that was told
  let degraded = false;
  let asleep = false; // the page has gone away, and may come back
  let clogged = false; // handlers are too slow: no more until they have caught up
  let queueId = queue?.queue_id;
  let granted;
  let node;
  let latency;
  let current;
  let next;
  let newest = 0; // names the newest attempt: an older one that wakes up finds itself stale
  let notBefore = 0; // the server's wish, by the clock
  const tried = new Set(); // actions that are allowed once until a link has been stable
  let life = new AbortController(); // of what the application was asked for
  let restored; // the promise of what was stored, once asked for
  let unwatch;

  begin(queue?.last_event_id ?? lastEventId);

  /* ------------------------------------------------------------------------------------------- links */

  /* Opens the next link; the current one, if any, goes on until it is welcomed. */
  async function open() {
    timers.cancel('retry', 'switch');
    if (!choice.best) return launch();
    const attempt = ++newest;
    next?.drop(HANDED_OVER);
    next = undefined;
    if (!current) setState('connecting');
    const failed = await prepare().catch((error) => error);
    if (attempt !== newest) return;
    if (!failed) return launch();
    if (failed.final) return stop(failed);
    report(failed);
    if (current) switchLater();
    else retry();
  }

  /* What a link needs to begin with. What the application has given by options is newer than what was stored. */
  async function prepare() {
    await (restored ??= store?.load().then((stored) => {
      queueId ??= stored?.queueId;
      begin(stored?.lastEventId);
    }));
    if (registrations && !queueId) {
      const registered = await registrations.get(life.signal);
      queueId = registered.queue_id;
      begin(registered.last_event_id);
      learn(registered);
    }
    await tokens?.get(life.signal);
  }

  function launch() {
    const name = choice.best;
    if (!name) return stop(new ParleyError('no_transport'));
    const link = (next = { name, since: 0, heir: !!current });
    const on = {
      claim() {
        link.from = received();
        current?.pause(true);
      },
      message: (message) => receive(link, message),
      latency: (ms) => emit('latency', (latency = link.heard = ms)),
      close: (why) => lost(link, why),
    };
    try {
      Object.assign(link, TRANSPORTS[name]({ ...env, queueId }, on));
    } catch (error) {
      link.drop = () => {};
      lost(link, { close: 1006, cut: true, message: error.message });
    }
  }

  function welcome(link, message) {
    const { queue_id, last_event_id, resumed } = message;
    if (resumed === false || queue_id !== queueId) narrowings.forget();
    queueId = queue_id;
    learn(message);
    /* It goes on from now, and a catch-up has found meanwhile where to begin: what lies between would be missed. */
    if (link.from === undefined && received() < last_event_id) return open();
    const old = current;
    current = link;
    next = undefined;
    link.since = Date.now();
    begin(last_event_id);
    degraded = false;
    notBefore = 0;
    if (old) retire(old);
    if (link.name === 'websocket' && choice.blocked) choice.suspect();
    timers.set('stable', timing.stableMs, settle);
    expires(message);
    save(true);
    setState('connected');
    if (current !== link) return;
    requests.flush(link);
    narrowings.resume();
    prefer();
  }

  /* The link has lasted, and carried something: what went before it no longer counts. */
  function settle() {
    if (current.heard === undefined) return timers.set('stable', timing.stableMs, settle);
    backoff.reset();
    tried.clear();
    if (current.name === 'websocket') choice.proven();
  }

  function retire(old) {
    /* A poll left running would take the queue back; a socket may still bring the reply to a publish. */
    if (old.name === 'websocket') setTimeout(discard, timing.retireMs, old, HANDED_OVER);
    else old.drop(HANDED_OVER);
  }

  function discard(link, close) {
    link.drop(close);
    requests.lose(link);
  }

  function lost(link, why) {
    requests.lose(link);
    if (link === next) {
      next = undefined;
      if (current) return nextFailed(link, why);
    } else if (link === current) {
      current = undefined;
      timers.cancel('stable', 'mark', 'refresh');
      /* The one being opened decides; if it has just replaced this one, nobody needs to see a change. */
      if (next) return why.close !== 4409 && setState('connecting');
    } else return;
    decide(link, why);
  }

  /* The current link lives: no hurry, and nothing to learn but that WebSocket is still blocked. */
  function nextFailed(link, why) {
    current.pause(clogged);
    if (reaction(why.close, why.error) === 'token') tokens?.drop();
    if (link.name === 'websocket' && current.name === 'longpoll') choice.block();
    else switchLater(why.retryAfterMs);
  }

  function switchLater(minMs = 0) {
    timers.set('switch', minMs + backoff.next(), () => prefer(true));
  }

  function decide(link, why) {
    const error = failure(why);
    const action = actionFor(link, error);
    const first = !tried.has(action);
    tried.add(action);
    switch (action) {
      case 'backoff':
        if (suspicious(link, why)) return examine();
        /* Long-poll does not get through either: then it was not WebSocket that is blocked. */
        if (choice.blocked && !link.since) choice.trust();
        return retry(error.retryAfterMs);
      case 'transport':
        choice.offer = [link.name === 'websocket' ? 'longpoll' : 'websocket'];
        if (choice.best) return retry(error.retryAfterMs);
        break;
      case 'register':
        if (forgetQueue()) return first ? open() : retry();
        break;
      case 'token':
        tokens?.drop();
        if (first && tokens) return open();
        break;
      case 'again':
        if (first) return open();
        break;
      case 'once':
        if (!first) break;
        report(error);
        return retry();
    }
    stop(error);
  }

  function failure({ close, error, message, retryAfterMs }) {
    return new ParleyError(error || `closed_${close}`, message, { close, retryAfterMs });
  }

  function actionFor(link, { close, code }) {
    if (code.startsWith('transport_')) return 'transport';
    /* A poll that was on its way when this link took over from it has arrived late: nobody else wants the queue.
     * That is forgiven once; a second time somebody does. */
    if (close === 4409 && link.heir) return 'again';
    return reaction(close, code);
  }

  function retry(minMs = 0) {
    const now = Date.now();
    notBefore = Math.max(notBefore, now + minMs);
    /* A platform that says it is offline will say when that ends, and may be wrong. */
    retryIn(notBefore - now + (page?.navigator?.onLine === false ? timing.backoffMaxMs : backoff.next()));
  }

  function retryIn(retryInMs) {
    timers.set('retry', retryInMs, open);
    setState('waiting', { retryInMs });
  }

  function unlink(close) {
    newest += 1;
    next?.drop(close);
    const link = current;
    current = next = undefined;
    if (link) discard(link, close);
    timers.cancel();
  }

  function stop(error) {
    report(error);
    /* Whoever took the queue over owns the stored entry now. */
    if (error.code !== 'replaced') save();
    shut(HANDED_OVER);
    setState('closed', { error });
  }

  function shut(close) {
    life.abort();
    unwatch?.();
    unlink(close);
    requests.close();
    narrowings.forget();
    choice.suspect();
    notBefore = 0;
    asleep = clogged = false;
    tried.clear();
    backoff.reset();
  }

  /* False where no other queue can be had. */
  function forgetQueue() {
    if (tokens || registrations) queueId = undefined;
    registrations?.drop();
    return !queueId;
  }

  /* --------------------------------------------------------------------------------- which transport */

  /* What the server says of itself and of what it grants. */
  function learn({ communities, node: name = node, transports: offer = choice.offer }) {
    granted = communities ?? granted;
    node = name;
    choice.offer = offer;
  }

  /* Opens another link beside the current one if a better transport is to be had, or if it must be anew. */
  function prefer(anew) {
    const { best } = choice;
    if (current && !next && best && (anew || best !== current.name)) open();
  }

  /* A socket that never said anything, or died young, may have met a proxy. */
  function suspicious(link, why) {
    const young = link.heard === undefined || Date.now() - link.since < timing.stableMs;
    return link.name === 'websocket' && why.cut && young && choice.usable.includes('longpoll');
  }

  /* Only plain HTTP that works tells a blocked WebSocket from a server that is away. */
  async function examine() {
    const attempt = newest;
    setState('waiting');
    const { body, why } = await http(env, 'GET', 'health', { timeoutMs: timing.connectMs });
    if (attempt !== newest) return;
    if (body || why.close > 4000) choice.failed();
    if (choice.blocked) open();
    else retry();
  }

  /* ---------------------------------------------------------------------------------------- messages */

  function receive(link, message) {
    const { op } = message;
    /* Replies are matched by id; a link that was replaced may still bring some. */
    if (op === 'reply') replied(message);
    else if (link === next && op === 'welcome') welcome(link, message);
    else if (link === current) handlers[op]?.(message);
  }

  const handlers = {
    events: onEvents,
    catchup_required: onGap,
    signal: onSignal,
    goaway: onGoaway,
    transports: onTransports,
    ping: moved,
    pong: moved,
  };

  function replied(message) {
    const { id, error } = message;
    if (id !== undefined) requests.answer(message);
    else if (error) report(new ParleyError(error.code, error.message));
  }

  function onEvents({ events = [], ...rest }) {
    const link = current;
    for (const event of events) {
      take(event);
      if (link !== current) return;
    }
    moved(rest);
    if (events.length) markSoon();
    if (pending() > maxPending) clog();
  }

  function moved({ last_event_id }) {
    advance(last_event_id);
    if (store) markSoon();
  }

  /* Where the application stands is told to the server and to the storage, now and then. A poll tells it by itself. */
  function markSoon() {
    if (timers.has('mark')) return;
    timers.set('mark', timing.ackMs, () => {
      save(true);
      if (current.name === 'websocket') current.send({ op: 'ack', event_id: position() });
    });
  }

  function onGap({ reason, communities, last_event_id: lastEventId }) {
    if (store) markSoon();
    skip({ reason, communities, articles: narrowings.articles(communities ?? granted), lastEventId });
  }

  function onSignal({ op, ...value }) {
    if (value.type === 'membership') learn(value);
    if (value.type === 'status') {
      degraded = value.state === 'degraded';
      setState('connected');
    }
    emit('signal', value);
  }

  function onTransports({ transports }) {
    learn({ transports });
    prefer();
  }

  function onGoaway({ reconnect_after_ms: afterMs = 0, transports }) {
    learn({ transports });
    notBefore = Date.now() + afterMs;
    timers.set('switch', afterMs, () => prefer(true));
  }

  async function ask(message, abort) {
    if (state === 'closed') throw new ParleyError('closed');
    return requests.ask(message, current, abort);
  }

  /* ------------------------------------------------------------------------------------------- token */

  /* Refreshed in the last fifth of its life, or the last minute; again in what is left of it when that fails. */
  function expires({ token_expires_in_ms: inMs = lifetimeMs(tokens?.value) }) {
    if (!tokens || !(inMs > 0)) return;
    const earlyMs = Math.min(inMs / 5, 60_000) * (0.5 + random() / 2);
    timers.set('refresh', inMs - earlyMs, () => refresh(Date.now() + earlyMs));
  }

  async function refresh(expiresAt) {
    const { signal: abort } = life;
    try {
      const token = await tokens.renew(abort);
      /* Without a link the next one begins with it. */
      if (!current) return;
      expires(await ask({ op: 'refresh', token }));
    } catch (error) {
      if (abort.aborted || error.code === 'connection_lost') return;
      if (error.final) return stop(error);
      report(error);
      expires({ token_expires_in_ms: expiresAt - Date.now() });
    }
  }

  /* ------------------------------------------------------------------------------------------ catchup */

  async function catchup(read, { signal: abort } = {}) {
    const release = hold();
    let cursor = 0;
    try {
      const taken = await takeCursor(abort);
      const result = await read({ cursor: taken, signal: abort });
      if (!abort?.aborted) cursor = taken;
      return result;
    } finally {
      release(cursor);
      drained();
      if (abort?.aborted) throw abort.reason;
      if (cursor && state === 'idle') connect();
    }
  }

  async function takeCursor(abort) {
    await prepare();
    const path = `cursor${queueId ? `?queue_id=${queueId}` : ''}`;
    const { body, why } = await http(env, 'GET', path, { signal: abort });
    begin(body?.last_event_id);
    if (!why) return body.last_event_id;
    if (reaction(why.close) === 'token') tokens?.drop();
    throw failure(why);
  }

  function save(open) {
    store?.save(queueId, position(), open);
  }

  /* ------------------------------------------------------------------------------- slow applications */

  /* A poll can wait; a socket can only be let go of, and be resumed where it stopped. */
  function clog() {
    clogged = true;
    if (current.name === 'longpoll') current.pause(true);
    else rest();
  }

  function drained() {
    if (!clogged || pending() > maxPending / 2) return;
    clogged = false;
    if (current) current.pause(false);
    else if (!next && !timers.has('retry')) open();
  }

  /* ------------------------------------------------------------------------------- sleeping and waking */

  function wake() {
    if (current) current.check();
    else if (timers.has('retry')) retryIn(Math.max(0, notBefore - Date.now()));
  }

  function online() {
    rhythm.forget();
    backoff.reset();
    wake();
  }

  /* An open connection would keep the page from being kept. The queue stays: for this page if it comes back, or for
   * the next if it finds it in the storage. */
  function sleep() {
    save();
    asleep = true;
    clogged = false;
    rest();
  }

  function rest() {
    unlink(HANDED_OVER);
    setState('waiting');
  }

  function back() {
    if (!asleep) return wake();
    asleep = false;
    open();
  }

  /* --------------------------------------------------------------------------------------------- rest */

  function setState(wanted, detail) {
    const name = wanted === 'connected' && degraded ? 'degraded' : wanted;
    const change = name + current?.name;
    if (change === told && name !== 'waiting') return;
    told = change;
    state = name;
    emit('state', { state, transport: current?.name, ...detail });
  }

  function connect() {
    if (state !== 'idle' && state !== 'closed') return;
    if (life.signal.aborted) life = new AbortController();
    unwatch = watchPage(page, timing.tickMs, { wake, online, pagehide: sleep, pageshow: back });
    open();
  }

  function close({ keepQueue } = {}) {
    if (state === 'closed') return;
    shut(keepQueue ? HANDED_OVER : ENDED);
    if (!keepQueue) forgetQueue();
    save();
    setState('closed');
  }

  undoable(close, signal);

  return {
    get state() {
      return state;
    },
    get transport() {
      return current?.name;
    },
    get lastEventId() {
      return position();
    },
    get queueId() {
      return queueId;
    },
    get communities() {
      return granted;
    },
    get node() {
      return node;
    },
    get latency() {
      return latency;
    },

    on,
    connect,
    close,
    catchup,
    wake,

    subscribe({ community, article }, handler, { signal: abort } = {}) {
      if (abort?.aborted) return () => {};
      const off = on('event', (event) => matches({ community, article }, event) && handler(event));
      narrowings.want(community, article, 1);
      return undoable(() => {
        off();
        narrowings.want(community, article, -1);
      }, abort);
    },

    publish: ({ type, data, communities }, context) => ask({ op: 'publish', type, data, community_ids: communities }, context?.signal),

    events(context) {
      return stream(this, context);
    },

    [Symbol.asyncIterator]() {
      return stream(this);
    },

    /* For demonstrations and tests: as if the network did not let this transport through. */
    forbid(name) {
      choice.forbidden.add(name);
      if (current?.name !== name && next?.name !== name) return;
      unlink(HANDED_OVER);
      open();
    },

    allow(name) {
      choice.forbidden.delete(name);
      if (name === 'websocket') choice.trust();
      prefer();
    },

    /* For demonstrations and tests: drops the current link as a broken network would. */
    cut() {
      const link = current;
      if (!link) return;
      link.drop(HANDED_OVER);
      lost(link, { close: 1006, cut: true });
    },
  };
}
