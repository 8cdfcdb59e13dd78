import type { FunctionComponent, ReactNode } from 'react';
import type { Gap, Handler, ParleyClient, ParleyEvent, State, Topic, TransportName } from './index.js';

export interface Connection {
  readonly state: State;
  readonly transport: TransportName | undefined;
  readonly node: string | undefined;
  /** Milliseconds there and back; undefined until measured. */
  readonly latency: number | undefined;
  /** Whether this tab holds the connection for the others; undefined unless the client is a `SharedParley`. */
  readonly leader: boolean | undefined;
}

/**
 * Makes a client known to the hooks below it. Make the client outside of components, or in `useState(() => …)`.
 * A client that is still `idle` is connected, and closed when the last provider of it unmounts; one that was connected
 * before is left to whoever did that. Nothing connects while rendering on a server.
 */
export const ParleyProvider: FunctionComponent<{ value: ParleyClient; children?: ReactNode }>;

/** The client of the nearest provider. Throws when there is none. */
export function useParley(): ParleyClient;

/**
 * Calls `handler` for every event of a topic while the component is mounted: `{ community }`, `{ community, article }`,
 * or `{}` for all that the client receives. Nothing (`null`, `undefined`, `false`): listens to nothing yet.
 *
 * The newest `handler` is the one called: it need not be memoized, and the topic may be a new object at each render.
 * `onGap` is called when events of the topic may have been missed: refetch then.
 */
export function useEvents<Data = unknown>(
  topic: Topic | { community?: undefined; article?: undefined } | null | undefined | false,
  handler: Handler<ParleyEvent<Data>>,
  options?: { onGap?: (gap: Gap) => void },
): void;

/** How the connection is; renders again when that changes. The same object as long as nothing has. */
export function useConnection(): Connection;
