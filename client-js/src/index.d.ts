/** An immutable fact, as the server delivers it. Ids only grow. */
export interface ParleyEvent<Data = unknown> {
  event_id: number;
  /** `new_comment`, `updated_comment`, `deleted_comment`, the same of `discussion`, or any other. */
  type: string;
  /** RFC 3339. */
  timestamp: string;
  community_ids: number[];
  channels?: string[];
  data: Data;
  traceparent?: string;
}

export type TransportName = 'websocket' | 'longpoll';

/**
 * - `idle`: not connected yet, nothing has been asked for
 * - `connecting`: a first link, or the next after a lost one, is being opened
 * - `connected`: events flow
 * - `waiting`: the link was lost; the next attempt is scheduled
 * - `closed`: for good, by `close()` or by the server; `connect()` starts again
 */
export type State = 'idle' | 'connecting' | 'connected' | 'waiting' | 'closed';

export interface StateChange {
  state: State;
  /** What carries the events now; undefined without a link. */
  transport: TransportName | undefined;
  /** In `waiting`: until the next attempt, when that is known. */
  retryInMs?: number;
  /** In `closed`: what ended it, if it was not `close()`. */
  error?: ParleyError;
}

/** Events up to `lastEventId` may have been missed: refetch what is shown. */
export interface Gap {
  reason: 'trimmed' | 'epoch' | 'ahead' | 'gap' | 'expired' | (string & {});
  /** Those that lost events; absent: all. */
  communities?: number[];
  lastEventId: number;
}

/** Something of the moment, without id or history. Unknown types are passed on. */
export interface Signal {
  type: string;
  [field: string]: unknown;
}

/** Where a queue registered by the application's own backend stands. */
export interface QueuePosition {
  queue_id: string;
  last_event_id?: number;
}

/** What Parley needs of a `WebSocket` class; browsers', Node 22's and that of the `ws` package fit. */
export type WebSocketClass = new (url: string, protocols: string[]) => {
  readonly readyState: number;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  send(data: string): void;
  close(code?: number): void;
};

/** Milliseconds, except `holdS`. The defaults suit browsers; tests shorten them. */
export interface Timing {
  /** For a socket to open, and for the HTTP request that tells a blocked WebSocket from a server that is away. 10 000 */
  connectMs: number;
  /** From an open socket to its first message. 5 000 */
  welcomeMs: number;
  /** The server's ping interval until it has said its own; a socket silent for twice as long is given up. 25 000 */
  pingMs: number;
  /** How many **seconds** a poll is asked to be held. 50 */
  holdS: number;
  /** Between polls that come back at once with nothing. 1 000 */
  idleMs: number;
  /** A link that lasted this long was a success: backoff and failure counts start anew. 5 000 */
  stableMs: number;
  /** For a reply to `publish`. 10 000 */
  requestMs: number;
  /** From an event to its acknowledgement over WebSocket. 5 000 */
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

interface CommonOptions {
  /** Of the server, `https://…` or `http://…`, with any path prefix it is mounted under. */
  url: string;
  /** Which transports may be used, the preferred first. The server may order or narrow them. Default: both, WebSocket first. */
  transports?: TransportName[];
  /** Go on after this id, which came with a snapshot (`GET /realtime/cursor`), instead of from now. */
  lastEventId?: number;
  /** Default: the global one. Node 20 has none: give the `ws` package's. */
  WebSocket?: WebSocketClass;
  /** Default: the global one. */
  fetch?: typeof fetch;
  /** 0 to 1, for the jitter. Default: `Math.random`. */
  random?: () => number;
  timing?: Partial<Timing>;
}

interface TokenOptions extends CommonOptions {
  /**
   * Returns a JWT. Called before the first link and again when the server says that a token is no longer good,
   * once; a rejection is reported and tried again after a while.
   */
  getToken: () => string | Promise<string>;
  queue?: QueuePosition;
}

interface QueueOptions extends CommonOptions {
  getToken?: undefined;
  /** A queue that the application's backend has registered. When it is gone, the client closes: register again. */
  queue: QueuePosition;
}

export type ParleyOptions = TokenOptions | QueueOptions;

export interface Events {
  event: ParleyEvent;
  state: StateChange;
  gap: Gap;
  signal: Signal;
  error: ParleyError;
}

/** One queue at one server, over whatever transport gets through. */
export class Parley {
  /** Throws `TypeError` when `url` is not an absolute http(s) URL, or when neither `getToken` nor `queue` is given. */
  constructor(options: ParleyOptions);

  readonly state: State;
  /** What carries the events now; undefined without a link. */
  readonly transport: TransportName | undefined;
  /** Of everything up to here the application has what concerned it. */
  readonly lastEventId: number | undefined;
  readonly queueId: string | undefined;

  /** Starts; does nothing unless `idle` or `closed`. Watch `state`. */
  connect(): void;

  /**
   * Stops, and ends the queue on the server. With `keepQueue` the queue waits there for its time to live, to be
   * resumed by `connect()` or by another client that is given `queueId` and `lastEventId`.
   */
  close(options?: { keepQueue?: boolean }): void;

  /**
   * Calls `handler` for the events of a community, or of one article in it; the server sends no others of that
   * community then. Returns its undo. A refusal by the server is reported as `error`. No history is replayed.
   */
  subscribe<Data = unknown>(
    topic: { community: number; article?: number },
    handler: (event: ParleyEvent<Data>) => void,
  ): () => void;

  /**
   * Publishes within what the token grants (scope `publish`); the event does not come back to this client.
   * Waits for a link if there is none. Rejects with a `ParleyError`: with code `connection_lost` or `timeout`
   * the outcome is unknown.
   */
  publish(event: { type: string; data: Record<string, unknown>; communities?: number[] }): Promise<{ event_id: number }>;

  /**
   * Listens; returns its undo. Handlers are called in the order of `on()`, each event once, with growing ids.
   * What a handler throws is reported as `error` (to the console when nobody listens) and stops no other.
   */
  on<Name extends keyof Events>(name: Name, handler: (value: Events[Name]) => void): () => void;

  /** For demonstrations and tests: from now on as if the network let this transport not through. */
  forbid(transport: TransportName): void;
  /** Undoes `forbid`; a better transport is taken up at once. */
  allow(transport: TransportName): void;
  /** For demonstrations and tests: drops the current link as a broken network would. */
  cut(): void;
}

export class ParleyError extends Error {
  /** One of `ERRORS`, or of the client's own: `closed`, `timeout`, `connection_lost`, `get_token`, `no_transport`, `handler`, `closed_<close code>`. */
  code: string;
  /** The server's wish before another try. */
  retryAfterMs?: number;
  /** The close code of the link, when that is what went wrong. */
  close?: number;
}

/** What a client does: reconnect with jitter, get a new token, register again, stop, or try once more. */
export type Action = 'backoff' | 'token' | 'register' | 'stop' | 'once';

/** Error code -> HTTP status, close code, action. */
export const ERRORS: Readonly<Record<string, [http: number, close: number, action: Action]>>;

/** What the client does after a close with this code and, if known, this error code. */
export function actionOf(close: number, error?: string): Action;
