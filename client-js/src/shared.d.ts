import type {
  Cancelable,
  Events,
  Handler,
  ParleyClient,
  ParleyEvent,
  ParleyOptions,
  Publication,
  State,
  StateChange,
  Timing,
  Topic,
  TransportName,
  Undo,
} from './index.js';

/** Milliseconds. The defaults take over from a frozen leader within two seconds, while one of the tabs is shown. */
export interface Pulse {
  /** Between two signs of life of the tab that leads. 400 */
  beatMs: number;
  /** Without one for so long, it is asked for one. 600 */
  silentMs: number;
  /** Without an answer for so long, it is taken for frozen. 400 */
  deadMs: number;
  /** At most so much later, so that not all tabs take over at once; hidden tabs wait as much again. 100 */
  staggerMs: number;
}

/** Of `LockManager`, what is needed. */
export interface LocksLike {
  request(name: string, granted: (lock: any) => unknown): Promise<unknown>;
  request(name: string, options: { steal?: boolean; signal?: AbortSignal }, granted: (lock: any) => unknown): Promise<unknown>;
  query(): Promise<{ held?: { name?: string; clientId?: string }[] }>;
}

/** What is needed of a `BroadcastChannel` class. */
export type BroadcastChannelClass = new (name: string) => {
  onmessage: ((event: any) => void) | null;
  postMessage(message: unknown): void;
  close(): void;
};

interface OfTabs {
  timing?: Partial<Timing & Pulse>;
  /**
   * Tabs of one origin with the same name share a connection, and so a user: name the user when several may be signed in
   * at once, or one after another while old tabs are still open. Default: `parley:` and the url.
   */
  name?: string;
  /** Default: `navigator.locks`, which browsers have on secure origins. `null`: a connection of its own. */
  locks?: LocksLike | null;
  /** Default: the global one. `null`: a connection of its own. */
  BroadcastChannel?: BroadcastChannelClass | null;
}

type Shared<Options> = Options extends unknown ? Omit<Options, 'timing'> & OfTabs : never;

export type SharedOptions = Shared<ParleyOptions>;

export interface SharedStateChange extends StateChange {
  /** Whether this tab holds the connection. Told anew when that changes. */
  leader: boolean;
}

export interface SharedEvents extends Events {
  state: SharedStateChange;
}

/**
 * One connection for all tabs of a browser. One tab leads: it has the connection, and gets tokens or registers the
 * queue. The others listen to it. When it is closed or crashes another leads at once, when it is frozen within two
 * seconds (within minutes where no tab is shown: browsers slow their timers), on the same queue: no tab misses an event or
 * sees one twice. A browser without Web Locks or BroadcastChannel
 * gives each tab a connection of its own.
 *
 * Everything is as with `Parley`, per tab: handlers, `lastEventId`, `catchup`, iteration, `storage` (give
 * `sessionStorage`: a tab's position is its own). What differs:
 *
 * - `state`, `transport`, `latency`, `node` and `queueId` are those of the shared connection; `forbid`, `allow` and
 *   `cut` concern it, from whichever tab, and `forbid` that of later leaders too.
 * - The queue carries what any tab has subscribed to, so `on('event')` may bring more than this tab has narrowed to.
 * - What a tab publishes does not come back to it, and does come to the user's other tabs. When the tab that leads is
 *   lost before the reply, `publish` rejects with `connection_lost`: the outcome is unknown.
 * - `close()` is of this tab. The last one ends the queue on the server, unless `keepQueue`.
 */
export class SharedParley implements ParleyClient {
  /** Throws `TypeError` as `Parley` does. */
  constructor(options: SharedOptions);

  /** Whether this tab holds the connection. */
  readonly leader: boolean;

  readonly state: State;
  readonly transport: TransportName | undefined;
  readonly lastEventId: number | undefined;
  readonly queueId: string | undefined;
  readonly communities: readonly number[] | undefined;
  readonly node: string | undefined;
  readonly latency: number | undefined;
  connect(): void;
  close(options?: { keepQueue?: boolean }): void;
  on<Name extends keyof SharedEvents>(name: Name, handler: Handler<SharedEvents[Name]>, options?: Cancelable): Undo;
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
