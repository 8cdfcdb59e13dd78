/* One connection for all tabs of a browser. Each tab has a client of its own, whose server is its mailbox; the tab that
 * leads has the hub, which holds the connection. They speak over a BroadcastChannel:
 *
 *   here    { tab, topics, fresh? }      a tab is there and wants this; fresh: it knows nothing yet
 *   bye     { tab }                      it is no longer
 *   lead    { term, status, mark?, tabs?, forbidden? }  the leader lives, how the connection is, how far the stream has come
 *   ask     {}                           is the leader there?      claim {}   this tab is about to take the lead
 *   events  { term, after, events, at }  a stretch of the stream   gap { term, gap, below? }
 *   signal, error { term, … }            as from the connection   closed { error } it is, for good
 *   need    { at }                       a tab has had everything up to `at` and misses what follows
 *   publish { term, tab, message }       reply { tab, id, result | error, event? }
 *   command { verb, value }              for the connection, this one and those of later leaders
 *
 * A term is one tab's time as leader; what comes from an earlier one is not listened to. */
import { createDispatcher } from './dispatch.js';
import { Parley, ParleyError } from './index.js';
import { DEFAULT_PULSE, Election, Watch } from './shared_election.js';
import { Hub } from './shared_hub.js';
import { Mailbox } from './shared_mailbox.js';
import { Page, awake, watchPage } from './shared_page.js';
import { Stream } from './shared_stream.js';
import { merged } from './shared_topics.js';
import { stream } from './stream.js';

/* For all tabs to say what they want, before a new leader narrows the queue. */
const ROLL_CALL_MS = 150;

/* How long a leader whose queue was taken waits to hear that the lead was taken too. */
const GRACE_MS = 300;

/* A queue that is taken twice within this time is used by somebody else. */
const REPLACED_MS = 10_000;

const UNKNOWN = { code: 'connection_lost', message: 'the tab that held the connection is gone: the outcome is unknown' };

/* Where tabs cannot find each other, each is alone and leads. */
const ALONE = {
  locks: { request: async (name, options, granted = options) => granted(), query: async () => ({ held: [] }) },
  BroadcastChannel: class {
    postMessage() {}
    close() {}
  },
};

export class SharedParley {
  #options;
  #name;
  #id = Math.random().toString(36).slice(2);
  #page;
  #unwatch;
  #platform;
  #pulse;
  #client; // this tab's
  #clientPage = new Page();
  #mailbox;
  #stream = new Stream();
  #dispatcher = createDispatcher();
  #election;
  #watch;
  #channel;
  #hub; // while this tab leads
  #tabs = new Map(); // the others: id -> topics
  #forbidden = new Set(); // transports, by whichever tab
  #presences = new Map(); // while this tab leads: id -> AbortController of the lock that a living tab holds
  #leave; // releases this tab's own
  #term = 0;
  #status = {}; // of the connection, as the leader has told last
  #state = 'idle';
  #start; // where the client wants to begin: { queue_id, last_event_id }
  #unplaced = []; // who waits for the client to have a position
  #publishing = new Set();
  #neededAt = 0;
  #beat;
  #replacedAt = 0;

  constructor(options) {
    const { url, getToken, register, queue, name = `parley:${url}`, signal, page, timing } = options;
    if (!getToken && !register && !queue) throw new TypeError('getToken, register or queue is needed');
    const { locks, BroadcastChannel } = { locks: globalThis.navigator?.locks, BroadcastChannel: globalThis.BroadcastChannel, ...defined(options) };
    this.#options = options;
    this.#name = name;
    this.#platform = locks && BroadcastChannel ? { locks, BroadcastChannel } : ALONE;
    this.#page = page === undefined && globalThis.addEventListener ? globalThis : page;
    this.#pulse = { ...DEFAULT_PULSE, ...timing };
    this.#mailbox = new Mailbox({
      hello: (start) => this.#hello(start),
      narrow: () => this.#narrow(),
      publish: (message) => this.#publish(message),
      need: (at) => this.#need(at),
    });
    this.#client = this.#makeClient();
    this.#client.on('error', (error) => this.#dispatcher.report(error));
    this.#election = new Election({
      name,
      presence: this.#presence(this.#id),
      locks: this.#platform.locks,
      on: { lead: () => this.#lead(), lost: () => this.#lost() },
    });
    this.#watch = new Watch(this.#pulse, {
      ask: () => this.#post({ op: 'ask' }),
      dead: () => this.#seize(),
      hidden: () => this.#page?.document?.visibilityState === 'hidden',
    });
    if (signal?.aborted) this.#state = 'closed';
    signal?.addEventListener('abort', () => this.close());
  }

  get state() {
    return this.#state;
  }

  get transport() {
    return this.#status.transport;
  }

  get leader() {
    return !!this.#hub;
  }

  get lastEventId() {
    return this.#client.lastEventId;
  }

  get queueId() {
    return this.#status.queueId ?? this.#client.queueId;
  }

  get communities() {
    return this.#status.communities;
  }

  get node() {
    return this.#status.node;
  }

  get latency() {
    return this.#status.latency;
  }

  connect() {
    if (this.#state !== 'idle' && this.#state !== 'closed') return;
    if (this.#options.signal?.aborted) return;
    this.#setState('connecting');
    this.#unwatch = watchPage(this.#page, this.#pageHandlers);
    this.#client.connect();
  }

  close({ keepQueue = false } = {}) {
    if (this.#state === 'closed') return;
    this.#depart({ keepQueue });
    this.#end(undefined, { keepQueue });
  }

  on(name, handler, options) {
    const own = name === 'state' || name === 'latency' || name === 'error';
    return (own ? this.#dispatcher : this.#client).on(name, handler, options);
  }

  subscribe(topic, handler, options) {
    return this.#client.subscribe(topic, handler, options);
  }

  publish(event, options) {
    return this.#client.publish(event, options);
  }

  catchup(read, options) {
    if (this.#state === 'idle') this.connect();
    return this.#client.catchup(read, options);
  }

  events(options) {
    return stream(this, options);
  }

  [Symbol.asyncIterator]() {
    return this.events();
  }

  wake() {
    this.#command('wake');
    if (!this.#hub && this.#channel) this.#watch.check();
  }

  forbid(transport) {
    this.#command('forbid', transport);
  }

  allow(transport) {
    this.#command('allow', transport);
  }

  cut() {
    this.#command('cut');
  }

  /* --------------------------------------------------------------------------------- this tab's client */

  #makeClient() {
    const { url, queue, lastEventId, storage, storageKey, maxPending, random, timing } = this.#options;
    const { timing: patience, ...options } = this.#mailbox.options;
    const own = { url, queue, lastEventId, storage, storageKey, maxPending, random };
    return new Parley({
      ...defined(own),
      ...options,
      timing: { ...timing, ...patience },
      page: this.#clientPage,
      getToken: () => 'tab', // the mailbox does not ask who is there
      fetch: (input, init) => this.#fetch(input, init),
    });
  }

  /* The one thing that a tab asks the server itself is its cursor, to catch up. */
  async #fetch(input, init) {
    const { getToken, fetch = globalThis.fetch } = this.#options;
    const { Authorization, ...headers } = init.headers;
    const url = input.split('?')[0];
    if (this.#state !== 'closed') await this.#placed(init.signal);
    if (!getToken) return fetch(`${url}?queue_id=${encodeURIComponent(this.queueId)}`, { ...init, headers });
    const token = await getToken({ signal: init.signal });
    return fetch(url, { ...init, headers: { ...headers, Authorization: `Bearer ${token}` } });
  }

  /* A client that begins from now must have begun when it asks what now is: it would miss what lies between. */
  #placed(signal) {
    return new Promise((resolve, reject) => {
      if (this.#mailbox.at !== undefined) return resolve();
      signal.addEventListener('abort', () => reject(signal.reason));
      this.#unplaced.push(resolve);
    });
  }

  #hello(start) {
    this.#start = start;
    if (this.#channel) this.#open();
    else if (this.#state !== 'closed') this.#join();
  }

  /* Welcomes the client, once there is a stream that it can be handed. */
  #open(mark = this.#stream.at !== undefined && { at: this.#stream.at }) {
    if (!mark || !this.#status.queueId) return;
    this.#mailbox.open({ ...this.#status, at: mark.at });
    for (const placed of this.#unplaced.splice(0)) placed();
    if (this.#mailbox.at < this.#stream.at) this.#need(this.#mailbox.at);
  }

  #need(at) {
    const missed = this.#stream.since(at);
    if (missed) return this.#mailbox.take(missed);
    if (Date.now() - this.#neededAt < this.#pulse.beatMs) return;
    this.#neededAt = Date.now();
    this.#send({ op: 'need', at });
  }

  #narrow() {
    if (!this.#channel) return;
    if (this.#hub) this.#merge();
    this.#post({ op: 'here', tab: this.#id, topics: this.#mailbox.topics });
  }

  #publish(message) {
    this.#publishing.add(message.id);
    this.#send({ op: 'publish', tab: this.#id, term: this.#term, message });
  }

  #unknown() {
    for (const id of this.#publishing) this.#mailbox.reply({ id, error: UNKNOWN });
    this.#publishing.clear();
  }

  /* -------------------------------------------------------------------------------------- coming, going */

  #presence(id) {
    return `${this.#name}:${id}`;
  }

  #join() {
    const channel = new this.#platform.BroadcastChannel(this.#name);
    this.#channel = channel;
    channel.onmessage = ({ data }) => channel === this.#channel && this.#receive(data);
    /* Who holds no presence yet would be taken for dead. */
    const present = () =>
      new Promise((leave) => {
        if (channel !== this.#channel) return leave();
        this.#leave = leave;
        for (const value of this.#forbidden) this.#post({ op: 'command', verb: 'forbid', value });
        this.#post({ op: 'here', tab: this.#id, topics: this.#mailbox.topics, fresh: true });
        this.#watch.heard();
        this.#election.stand();
      });
    this.#platform.locks.request(this.#presence(this.#id), present).catch(() => {});
  }

  /* From the others, not for good. */
  #depart({ keepQueue }) {
    if (!this.#channel) return;
    this.#watch.stop();
    this.#resign({ keepQueue: keepQueue || this.#tabs.size > 0 });
    this.#post({ op: 'bye', tab: this.#id });
    this.#channel.close();
    this.#channel = undefined;
    this.#election.resign();
    this.#leave?.();
    this.#leave = undefined;
    /* Who stays knows, and may change it. */
    if (this.#tabs.size) this.#forbidden.clear();
    this.#tabs.clear();
  }

  #end(error, { keepQueue }) {
    this.#unwatch?.();
    this.#client.close({ keepQueue });
    this.#publishing.clear();
    this.#stream = new Stream();
    this.#status = keepQueue ? { queueId: this.#status.queueId } : {};
    this.#setState('closed', { error });
  }

  /* A page that is put to sleep must not be waited for. */
  #sleep({ keepQueue }) {
    if (!this.#channel) return;
    this.#depart({ keepQueue });
    this.#status = { ...this.#status, transport: undefined };
    this.#setState('waiting');
    this.#clientPage.dispatchEvent('pagehide', { persisted: true });
  }

  #awake() {
    if (this.#channel || this.#state !== 'waiting') return;
    this.#setState('connecting');
    this.#clientPage.dispatchEvent('pageshow', {});
  }

  /* --------------------------------------------------------------------------------------------- leading */

  #seize() {
    this.#post({ op: 'claim' });
    this.#watch.heard();
    this.#election.seize();
  }

  #lead() {
    this.#watch.stop();
    this.#begin(Math.max(this.#term + 1, Date.now()));
    const { locks, BroadcastChannel, name, storage, storageKey, signal, ...options } = this.#options;
    const hub = new Hub({
      options: { ...options, page: awake(this.#page) },
      stream: this.#stream,
      forbidden: this.#forbidden,
      on: {
        tell: (message) => this.#tell(message),
        status: () => hub === this.#hub && this.#say(),
        error: (error) => hub === this.#hub && this.#tell({ op: 'error', error: plain(error) }),
        closed: (error) => hub === this.#hub && this.#closed(hub, error),
      },
    });
    this.#hub = hub;
    const { queue_id, last_event_id } = this.#start;
    hub.start({ queueId: this.#status.queueId ?? queue_id, position: this.#stream.at ?? this.#mailbox.at ?? last_event_id });
    this.#introduce();
    for (const tab of this.#tabs.keys()) this.#attend(tab);
    setTimeout(() => hub === this.#hub && this.#merge(), ROLL_CALL_MS);
    this.#beat = setInterval(() => (hub.nudge(), this.#say()), this.#pulse.beatMs);
    this.#setState(this.#state, { anew: true });
  }

  /* The lock was taken by a tab that goes on with the queue. */
  #lost() {
    this.#resign({ keepQueue: true });
    if (!this.#channel) return;
    this.#watch.heard();
    this.#setState(this.#state, { anew: true });
  }

  #resign({ keepQueue }) {
    const hub = this.#hub;
    this.#hub = undefined;
    clearInterval(this.#beat);
    for (const presence of this.#presences.values()) presence.abort();
    this.#presences.clear();
    hub?.stop({ keepQueue });
  }

  #closed(hub, error) {
    if (error.close !== 4409) return this.#tell({ op: 'closed', error: plain(error) });
    setTimeout(() => {
      if (hub !== this.#hub) return;
      const again = Date.now() - this.#replacedAt < REPLACED_MS;
      this.#replacedAt = Date.now();
      if (again) this.#tell({ op: 'closed', error: plain(error) });
      else hub.reopen();
    }, GRACE_MS);
  }

  /* The leader's sign of life. */
  #say(more) {
    const { status, mark } = this.#hub;
    this.#tell({ op: 'lead', status, mark, ...more });
  }

  /* What a tab that is new, or a new leader's, does not know. */
  #introduce() {
    this.#say({ tabs: this.#roster(), forbidden: this.#forbidden });
  }

  #roster() {
    return new Map([...this.#tabs, [this.#id, this.#mailbox.topics]]);
  }

  #merge() {
    this.#hub.narrow(merged([...this.#roster().values()]));
  }

  /* Waits for the tab's end: its presence is free then, whatever happened to it. */
  #attend(tab) {
    if (this.#presences.has(tab)) return;
    const presence = new AbortController();
    this.#presences.set(tab, presence);
    const gone = () => this.#presences.get(tab) === presence && this.#forget(tab);
    this.#platform.locks.request(this.#presence(tab), { signal: presence.signal }, gone).catch(() => {});
  }

  #forget(tab) {
    this.#presences.get(tab)?.abort();
    this.#presences.delete(tab);
    this.#tabs.delete(tab);
    if (this.#hub) this.#merge();
  }

  /* -------------------------------------------------------------------------------------------- messages */

  #post(message) {
    this.#channel?.postMessage(message);
  }

  /* To all tabs, this one too. */
  #tell(message) {
    const told = { ...message, term: this.#term };
    this.#post(told);
    this.#receive(told);
  }

  /* To the leader. */
  #send(message) {
    if (this.#hub) this.#receive(message);
    else this.#post(message);
  }

  #command(verb, value) {
    const message = { op: 'command', verb, value };
    this.#post(message);
    this.#receive(message);
  }

  #receive(message) {
    if (message.op in this.#ofTabs) this.#ofTabs[message.op](message);
    else if (this.#hub && message.op in this.#toLeader) this.#toLeader[message.op](message);
    else if (message.op in this.#ofLeader && message.term >= this.#term) {
      if (message.term > this.#term) this.#begin(message.term);
      if (!this.#hub) this.#watch.heard();
      this.#ofLeader[message.op](message);
    }
  }

  /* Another leader, or the first that is heard of: what the last one was asked for will not be answered. */
  #begin(term) {
    this.#term = term;
    this.#neededAt = 0;
    this.#unknown();
    this.#post({ op: 'here', tab: this.#id, topics: this.#mailbox.topics });
  }

  #pageHandlers = {
    leave: (persisted) => this.#sleep({ keepQueue: persisted || !!this.#options.storage }),
    freeze: () => this.#sleep({ keepQueue: true }),
    back: () => this.#awake(),
    shown: () => this.#channel && !this.#hub && this.#watch.check(),
  };

  #ofTabs = {
    here: ({ tab, topics, fresh }) => {
      this.#tabs.set(tab, topics);
      if (!this.#hub) return;
      this.#attend(tab);
      this.#merge();
      if (fresh) this.#introduce();
    },
    bye: ({ tab }) => this.#forget(tab),
    /* Whatever the term: who is given the lead by it may hear of that first. */
    closed: ({ error: parts }) => {
      const error = thrown(parts);
      this.#depart({ keepQueue: true });
      this.#dispatcher.report(error);
      this.#end(error, { keepQueue: true });
    },
    claim: () => this.#hub || this.#watch.heard(),
    command: ({ verb, value }) => {
      if (verb === 'forbid') this.#forbidden.add(value);
      if (verb === 'allow') this.#forbidden.delete(value);
      this.#hub?.command(verb, value);
    },
    reply: (message) => {
      if (message.tab === this.#id) return this.#publishing.delete(message.id) && this.#mailbox.reply(message);
      if (!message.event) return;
      this.#stream.put(message.event);
      this.#mailbox.echo(message.event);
    },
  };

  #toLeader = {
    ask: () => this.#say(),
    need: ({ at }) => this.#hub.serve(at),
    publish: ({ tab, term, message }) => term === this.#term && this.#hub.publish(tab, message),
  };

  #ofLeader = {
    lead: ({ status, mark, tabs, forbidden }) => {
      if (forbidden && !this.#hub) this.#forbidden = new Set(forbidden);
      for (const [tab, topics] of tabs ?? []) if (tab !== this.#id) this.#tabs.set(tab, topics);
      this.#apply(status);
      this.#open(mark);
      if (mark) this.#take(mark);
    },
    events: (stretch) => this.#take(stretch),
    gap: ({ gap, below }) => {
      if (below === undefined) this.#stream.reset(gap.lastEventId);
      if (below === undefined || this.#mailbox.at < below) this.#mailbox.gap(gap);
    },
    signal: ({ signal }) => this.#mailbox.signal(signal),
    error: ({ error }) => this.#dispatcher.report(thrown(error)),
  };

  #take({ after, events, at }) {
    this.#stream.add({ after, events, at });
    this.#mailbox.take({ after, events, at });
  }

  #apply(status) {
    const { latency, transport, retryInMs } = this.#status;
    this.#status = status;
    if (status.latency !== latency) this.#dispatcher.emit('latency', status.latency);
    this.#setState(status.state, { retryInMs: status.retryInMs, anew: status.transport !== transport || status.retryInMs !== retryInMs });
  }

  #setState(state, { anew = false, ...detail } = {}) {
    if (state === this.#state && !anew) return;
    this.#state = state;
    this.#dispatcher.emit('state', { state, transport: this.transport, leader: this.leader, ...defined(detail) });
  }
}

function defined(object) {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));
}

/* Errors cross from tab to tab as what they are made of. */
function plain({ code, message, close, retryAfterMs }) {
  return { code, message, close, retryAfterMs };
}

function thrown({ code, message, ...extra }) {
  return new ParleyError(code, message, defined(extra));
}
