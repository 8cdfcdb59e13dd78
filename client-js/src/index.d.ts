/** An immutable fact, as the server delivers it. Ids only grow. */
export interface ParleyEvent<Data = unknown> {
  event_id: number;
  /** `new_comment`, `updated_comment`, `deleted_comment`, the same of `discussion`, or any other. */
  type: string;
  /** RFC 3339. */
  timestamp: string;
  /** Absent in an event that was published with `channels` only. */
  community_ids?: number[];
  channels?: string[];
  data: Data;
  traceparent?: string;
}

export type TransportName = 'websocket' | 'longpoll';

/**
 * - `idle`: not connected yet, nothing has been asked for
 * - `connecting`: a first link, or the next after a lost one, is being opened
 * - `connected`: events flow
 * - `degraded`: linked, but the server says that it cannot deliver everything at the moment; nothing is lost
 * - `waiting`: the link was lost, or the page sleeps; the next attempt is scheduled, or comes when the page wakes
 * - `closed`: for good, by `close()` or by the server; `connect()` starts again
 */
export type State = 'idle' | 'connecting' | 'connected' | 'degraded' | 'waiting' | 'closed';

export interface StateChange {
  state: State;
  /** What carries the events now; undefined without a link. */
  transport: TransportName | undefined;
  /** In `waiting`: until the next attempt, when that is known. */
  retryInMs?: number;
  /** In `closed`: what ended it, if it was not `close()`. */
  error?: ParleyError;
}

/** Events up to `lastEventId` may have been missed: refetch what is shown of these communities and articles. */
export interface Gap {
  reason: 'trimmed' | 'epoch' | 'ahead' | 'gap' | 'expired' | (string & {});
  /** Those that lost events; absent: all. */
  communities?: number[];
  /** The articles subscribed to within them; absent: all, because one of them is not narrowed to articles. */
  articles?: number[];
  lastEventId: number;
}

/** Something of the moment, without id or history. Unknown types are passed on. */
export interface Signal {
  type: string;
  [field: string]: unknown;
}

/** Where a queue stands. */
export interface QueuePosition {
  queue_id: string;
  last_event_id?: number;
}

/** What the application's own `POST /api/realtime/register` answers: the server's answer, passed on. */
export interface Registration extends QueuePosition {
  communities?: number[];
  transports?: TransportName[];
  node?: string;
}

/** What a handler is called for. */
export interface Topic {
  community: number;
  /** Only events whose `data.article_id` is this. */
  article?: number;
}

export interface Publication {
  type: string;
  data: Record<string, unknown>;
  /** Default, the server's: `[data.community_id]`. */
  communities?: number[];
}

/** Undoes what returned it; calling it again does nothing. */
export type Undo = () => void;

/** What handlers may return: a promise holds back the next call of this handler, and of no other. */
export type Handler<Value> = (value: Value) => unknown;

export interface Cancelable {
  /** Aborting undoes a listening, ends an iteration, and rejects a promise with the signal's reason. */
  signal?: AbortSignal;
}

/** How messages are written. JSON is built in; `parley-client/msgpack` is the other. */
export interface Codec {
  /** The suffix of the subprotocol `parley.v1.…`. */
  readonly name: 'json' | 'msgpack';
  readonly contentType: string;
  /** Whether `encode` makes bytes and `decode` takes them; else both deal in strings. */
  readonly binary: boolean;
  encode(message: unknown): string | Uint8Array;
  decode(data: any): unknown;
}

/** `localStorage`, `sessionStorage`, React Native's `AsyncStorage`, or anything alike. */
export interface StorageLike {
  getItem(key: string): string | null | undefined | Promise<string | null | undefined>;
  setItem(key: string, value: string): unknown;
  removeItem(key: string): unknown;
}

/** What Parley hears of the page it runs in. A browser's `globalThis` fits; elsewhere call `wake()`. */
export interface PageLike {
  /** `online`, `offline`, `pageshow`, `pagehide`. */
  addEventListener(type: string, listener: (event: any) => void): void;
  removeEventListener(type: string, listener: (event: any) => void): void;
  /** `visibilitychange`, `resume`. */
  document?: {
    readonly visibilityState?: string;
    addEventListener(type: string, listener: (event: any) => void): void;
    removeEventListener(type: string, listener: (event: any) => void): void;
  };
  navigator?: { readonly onLine?: boolean };
}

/** What Parley needs of a `WebSocket` class; browsers', Node 22's and that of the `ws` package fit. */
export type WebSocketClass = new (url: string, protocols: string[]) => {
  readonly readyState: number;
  binaryType: any;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  send(data: any): void;
  close(code?: number): void;
};

/** Milliseconds, except `holdS`. The defaults suit browsers; tests shorten them. */
export interface Timing {
  /** For a socket to open, and for the HTTP request that tells a blocked WebSocket from a server that is away. 10 000 */
  connectMs: number;
  /** From an open socket to its first message. 5 000 */
  welcomeMs: number;
  /** The server's ping interval until it has said its own; a socket silent for twice as long is asked for a sign of life. 25 000 */
  pingMs: number;
  /** For that sign of life, and for the one that is asked for on waking. 3 000 */
  wakeMs: number;
  /** How often the clock is looked at: one that jumped means that the machine or the page slept. 5 000 */
  tickMs: number;
  /** Between two measurements of `latency` over WebSocket. 30 000 */
  latencyMs: number;
  /** How many **seconds** a poll is asked to be held, until a proxy is found to cut sooner. 50 */
  holdS: number;
  /** Between polls that come back at once with nothing. 1 000 */
  idleMs: number;
  /** A link that lasted this long was a success: backoff and failure counts start anew. 5 000 */
  stableMs: number;
  /** For a reply to `publish`. 10 000 */
  requestMs: number;
  /** From an event to its acknowledgement over WebSocket, and to its being written to `storage`. 5 000 */
  ackMs: number;
  /** How long a replaced WebSocket is still listened to for replies. 1 000 */
  retireMs: number;
  /** The first new try of a blocked WebSocket; doubles each time. 30 000 */
  probeMs: number;
  /** The longest between two such tries. 600 000 */
  probeMaxMs: number;
  /** The ceiling of the first reconnect delay; doubles each time. 500 */
  backoffMs: number;
  /** The highest ceiling of a reconnect delay. 30 000 */
  backoffMaxMs: number;
}

interface CommonOptions extends Cancelable {
  /** Of the server, `https://…` or `http://…`, with any path prefix it is mounted under. */
  url: string;
  /** Default: JSON. */
  codec?: Codec;
  /** Which transports may be used, the preferred first. The server may order or narrow them. Default: both, WebSocket first. */
  transports?: TransportName[];
  /** Go on after this id, which came with a snapshot (`GET /realtime/cursor`), instead of from now. */
  lastEventId?: number;
  /**
   * Where queue and position survive a reload, so that no event is missed or seen twice. `sessionStorage` suits a tab;
   * `localStorage` suits one client per browser. A copied or crashed page goes on from the position with a queue of its own.
   */
  storage?: StorageLike;
  /** Default: `parley:` and the url. Name the user too when several may sign in within one session. */
  storageKey?: string;
  /** How many events may wait for slow handlers before the server is told to wait. Default: 1 000. */
  maxPending?: number;
  /** Default: the global one. Node 20 has none: give the `ws` package's. */
  WebSocket?: WebSocketClass;
  /** Default: the global one. */
  fetch?: typeof fetch;
  /** Default: `globalThis` where it has `addEventListener`. `null`: hear of nothing. */
  page?: PageLike | null;
  /** 0 to 1, for the jitter. Default: `Math.random`. */
  random?: () => number;
  timing?: Partial<Timing>;
}

/**
 * Returns a JWT. Called before the first link, again some time before a token expires, and once when the server says
 * that one is no longer good; never twice at the same time. A rejection is reported and tried again after a while;
 * nothing (`null`, `''`) means that there will be no more: the client closes with `no_token`.
 */
export type GetToken = (context: { signal: AbortSignal }) => string | null | undefined | Promise<string | null | undefined>;

/**
 * Asks the application's backend for a queue. Called before the first link and whenever the queue is gone. A rejection
 * is reported and tried again after a while; nothing (`null`) closes the client with `no_queue`.
 */
export type Register = (context: { signal: AbortSignal }) => Registration | null | undefined | Promise<Registration | null | undefined>;

interface TokenOptions extends CommonOptions {
  getToken: GetToken;
  register?: undefined;
  queue?: QueuePosition;
}

interface RegisterOptions extends CommonOptions {
  register: Register;
  /** Also, when the server asks for it (`auth.require_token`), or for `publish`. */
  getToken?: GetToken;
  queue?: QueuePosition;
}

interface QueueOptions extends CommonOptions {
  getToken?: undefined;
  register?: undefined;
  /** A queue that the application's backend has registered. When it is gone, the client closes: register again. */
  queue: QueuePosition;
}

export type ParleyOptions = TokenOptions | RegisterOptions | QueueOptions;

export interface Events {
  event: ParleyEvent;
  state: StateChange;
  gap: Gap;
  signal: Signal;
  /** `latency` was measured anew, in milliseconds. */
  latency: number;
  error: ParleyError;
}

/** What `Parley` and `SharedParley` (`parley-client/shared`) have in common; hooks and bridges take this. */
export interface ParleyClient extends AsyncIterable<ParleyEvent> {
  readonly state: State;
  /** What carries the events now; undefined without a link. */
  readonly transport: TransportName | undefined;
  /** Of everything up to here the application has had, and finished with, what concerned it. */
  readonly lastEventId: number | undefined;
  readonly queueId: string | undefined;
  /** What the server grants, as far as it has said. */
  readonly communities: readonly number[] | undefined;
  /** Which server process, as it said when it last welcomed or registered this client. */
  readonly node: string | undefined;
  /** Milliseconds there and back; undefined until measured. */
  readonly latency: number | undefined;

  /** Starts; does nothing unless `idle` or `closed`. Watch `state`. */
  connect(): void;

  /**
   * Stops, and ends the queue on the server. With `keepQueue` the queue waits there for its time to live, to be
   * resumed by `connect()` or by another client that is given `queueId` and `lastEventId`.
   */
  close(options?: { keepQueue?: boolean }): void;

  /**
   * Listens; returns its undo. Handlers are called in the order of `on()`, each event once, with growing ids. A handler
   * that returns a promise gets its next event when that has settled; the others do not wait. What a handler throws or
   * rejects with is reported as `error` (to the console when nobody listens) and stops no other.
   */
  on<Name extends keyof Events>(name: Name, handler: Handler<Events[Name]>, options?: Cancelable): Undo;

  /**
   * Calls `handler` for the events of a community, or of one article in it; the server sends no others of that
   * community then. Returns its undo. A refusal by the server is reported as `error`. No history is replayed.
   */
  subscribe<Data = unknown>(topic: Topic, handler: Handler<ParleyEvent<Data>>, options?: Cancelable): Undo;

  /**
   * Publishes within what the token grants (scope `publish`); the event does not come back to this client.
   * Waits for a link if there is none. Rejects with a `ParleyError`: with code `connection_lost` or `timeout`
   * the outcome is unknown.
   */
  publish(event: Publication, options?: Cancelable): Promise<{ event_id: number }>;

  /**
   * Reads without a hole: asks the server for its cursor, holds events back, lets `read` fetch and show rows, and goes
   * on with the events after that cursor. For the first load (it connects when it has not been tried) and in a `gap`
   * handler. When `read` rejects, so does this, and every event held back is delivered.
   */
  catchup<Result>(read: (snapshot: { cursor: number; signal: AbortSignal | undefined }) => Result | Promise<Result>, options?: Cancelable): Promise<Result>;

  /**
   * `for await (const event of parley.events({ community: 42 })) …`; with a community it subscribes. It listens from
   * the first `next()` on. Ends when the client is closed or the signal aborts; throws `too_slow` when more than 1 000
   * events wait to be taken, and what closed the client if it was not `close()`.
   */
  events<Data = unknown>(options?: Partial<Topic> & Cancelable): AsyncIterableIterator<ParleyEvent<Data>>;
  /** The same as `events()`. */
  [Symbol.asyncIterator](): AsyncIterableIterator<ParleyEvent>;

  /**
   * Looks whether the link is alive, at once; while `waiting`, tries now. The page's own events and a clock that jumped
   * do this too: call it where there are none, as from React Native's `AppState`.
   */
  wake(): void;

  /** For demonstrations and tests: from now on as if the network let this transport not through. */
  forbid(transport: TransportName): void;
  /** Undoes `forbid`; a better transport is taken up at once. */
  allow(transport: TransportName): void;
  /** For demonstrations and tests: drops the current link as a broken network would. */
  cut(): void;
}

/** One queue at one server, over whatever transport gets through. */
export class Parley implements ParleyClient {
  /** Throws `TypeError` when `url` is not an absolute http(s) URL, or when none of `getToken`, `register` and `queue` is given. */
  constructor(options: ParleyOptions);

  readonly state: State;
  readonly transport: TransportName | undefined;
  readonly lastEventId: number | undefined;
  readonly queueId: string | undefined;
  readonly communities: readonly number[] | undefined;
  readonly node: string | undefined;
  readonly latency: number | undefined;
  connect(): void;
  close(options?: { keepQueue?: boolean }): void;
  on<Name extends keyof Events>(name: Name, handler: Handler<Events[Name]>, options?: Cancelable): Undo;
  subscribe<Data = unknown>(topic: Topic, handler: Handler<ParleyEvent<Data>>, options?: Cancelable): Undo;
  publish(event: Publication, options?: Cancelable): Promise<{ event_id: number }>;
  catchup<Result>(read: (snapshot: { cursor: number; signal: AbortSignal | undefined }) => Result | Promise<Result>, options?: Cancelable): Promise<Result>;
  events<Data = unknown>(options?: Partial<Topic> & Cancelable): AsyncIterableIterator<ParleyEvent<Data>>;
  [Symbol.asyncIterator](): AsyncIterableIterator<ParleyEvent>;
  wake(): void;
  forbid(transport: TransportName): void;
  allow(transport: TransportName): void;
  cut(): void;
}

export class ParleyError extends Error {
  constructor(code: string, message?: string, extra?: { cause?: unknown; close?: number; retryAfterMs?: number });
  /**
   * One of `ERRORS`, or of the client's own: `closed`, `timeout`, `connection_lost`, `get_token`, `no_token`,
   * `register`, `no_queue`, `no_transport`, `storage`, `too_slow`, `handler`, `closed_<close code>`.
   */
  code: string;
  /** The server's wish before another try. */
  retryAfterMs?: number;
  /** The close code of the link, when that is what went wrong. */
  close?: number;
  /** What the application's own function threw or rejected with. */
  cause?: unknown;
}

/** What a client does: reconnect with jitter, get a new token, register again, stop, or try once more. */
export type Action = 'backoff' | 'token' | 'register' | 'stop' | 'once';

/** Error code -> HTTP status, close code, action. */
export const ERRORS: Readonly<Record<string, [http: number, close: number, action: Action]>>;

/** What the client does after a close with this code and, if known, this error code. */
export function actionOf(close: number, error?: string): Action;
