/* A transport carries messages between one queue and the server for a while; what comes and goes is a link.
 * It keeps no state of the client's: it is told what it needs, says what happened, and forgets.
 *
 *   open(env, on) -> link       throws when this platform cannot; never calls `on` before it has returned
 *
 *   env   url             of the server, without a trailing slash
 *         WebSocket, fetch, codec
 *         token()         the newest, or undefined
 *         queueId         or undefined
 *         position()      the last event id that was received, now, or undefined
 *         timing          see DEFAULT_TIMING in timing.js
 *         rhythm          see rhythm.js
 *   on    claim()         about to ask for the queue: from here on the server may take it from another link
 *         message(m)      a server message as the protocol has it. `welcome` comes first, whatever the transport;
 *                         { op: 'transports', transports } says that the server's offer has changed
 *         latency(ms)     a way there and back was measured
 *         close(why)      at most once, and nothing after it: { close, error?, message?, retryAfterMs?, cut? } with a
 *                         close code, an error code of codes.js, the server's wish in milliseconds, and whether it was
 *                         neither the server nor this client that ended the link
 *   link  send(m)         a client message; one that needs a reply gets it by on.message or the link closes
 *         check()         asks for a sign of life at once; without one the link closes soon
 *         pause(yes)      while true, does not ask for the queue again
 *         drop(close)     ends it now, silently. 1000 ends the queue too, 4000 leaves it to another link */
import { openLongPoll } from './transport_longpoll.js';
import { openWebSocket } from './transport_websocket.js';

export const TRANSPORTS = { websocket: openWebSocket, longpoll: openLongPoll };
