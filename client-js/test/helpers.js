import { WebSocket } from 'ws';
import { Parley } from '../src/index.js';
import { FakeServer } from './fake_server.js';

/* Long waits made short. What must not happen within a test keeps its default, and so does how long a link may take to
 * answer: a machine that stands still for a moment has no dead links. */
export const FAST = { backoffMs: 10, backoffMaxMs: 40, idleMs: 20, ackMs: 20, retireMs: 50, stableMs: 200 };

/* A server and clients of it, all stopped when the test ends. `open(options)` gives a connecting client that
 * records what it says: events (their ids), states, gaps, signals, errors. */
export async function setup(t) {
  const server = await FakeServer.start();
  const clients = [];
  t.after(async () => {
    for (const client of clients) client.close({ keepQueue: true });
    await server.stop();
  });
  const open = ({ timing, begin = true, ...options } = {}) => {
    const client = new Parley({ url: server.url, getToken: () => 'token', WebSocket, timing: { ...FAST, ...timing }, ...options });
    clients.push(client);
    client.seen = [];
    client.states = [];
    client.gaps = [];
    client.signals = [];
    client.errors = [];
    client.on('event', (event) => client.seen.push(event.event_id));
    client.on('state', ({ state, transport }) => client.states.push(transport ? `${state} ${transport}` : state));
    client.on('gap', (gap) => client.gaps.push(gap));
    client.on('signal', (signal) => client.signals.push(signal));
    client.on('error', (error) => client.errors.push(error.code));
    if (begin) client.connect();
    return client;
  };
  return { server, open };
}

/* Resolves once condition() holds; says what it waited for when it never does. */
export async function until(condition, ms = 10000) {
  const end = performance.now() + ms;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`never came true: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/* Nothing gets through any more, until the client has given its link up. It ends before the client goes on: what would be
 * sent in between, though the network was back, would be waited for until its own deadline. */
export async function dead(server, client) {
  server.deaf = true;
  const off = client.on('state', ({ state }) => {
    if (state === 'waiting') server.deaf = false;
  });
  await until(() => !server.deaf);
  off();
}

/* As long as anything that is about to happen on loopback takes. */
export function aMoment(ms = 60) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

export const connected = (client, transport) => until(() => client.state === 'connected' && (!transport || client.transport === transport));

/* Connected, and the server has the link in hand: over long-poll a poll is being held. */
export const listening = (server, client) => until(() => client.state === 'connected' && server.reaches(client.queueId));
