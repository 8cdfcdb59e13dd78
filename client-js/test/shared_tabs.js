/* The tabs of one browser, in one process: SharedParley over a real BroadcastChannel and Web Locks that are enough like
 * the real ones. tab.crash() takes it away without a word; tab.freeze() lets nothing in or out until tab.thaw(). */
import { WebSocket } from 'ws';
import { SharedParley } from '../src/shared.js';
import { FakeServer } from './fake_server.js';
import { FAST, until } from './helpers.js';

/* A tab that stands still for a moment is not taken for frozen, but where a test is about that. */
const PULSE = { beatMs: 60, silentMs: 10_000 };
export const SHORT_PULSE = { beatMs: 60, silentMs: 120, deadMs: 80, staggerMs: 30 };

/* Web Locks of an origin; of(clientId) is the LockManager that one tab sees. */
export class FakeLocks {
  #held = new Map(); // name -> { clientId, end(error?) }
  #queue = []; // { name, clientId, grant }

  of(clientId) {
    return {
      request: (name, options, granted = options) => this.#request(clientId, name, granted === options ? {} : options, granted),
      query: async () => ({ held: [...this.#held].map(([name, lock]) => ({ name, clientId: lock.clientId })) }),
    };
  }

  crash(clientId) {
    this.#queue = this.#queue.filter((request) => request.clientId !== clientId);
    for (const lock of [...this.#held.values()]) if (lock.clientId === clientId) lock.end();
  }

  #request(clientId, name, { steal, signal }, granted) {
    return new Promise((resolve, reject) => {
      const abort = new DOMException('taken away', 'AbortError');
      const request = { name, clientId };
      request.grant = () => {
        const lock = {
          clientId,
          end: (error) => {
            if (this.#held.get(name) !== lock) return;
            this.#held.delete(name);
            if (error) reject(error);
            this.#next(name);
          },
        };
        this.#held.set(name, lock);
        queueMicrotask(async () => resolve(await Promise.resolve(granted({ name })).finally(() => lock.end())));
      };
      if (signal?.aborted) return reject(abort);
      signal?.addEventListener('abort', () => {
        if (!this.#queue.includes(request)) return;
        this.#queue.splice(this.#queue.indexOf(request), 1);
        reject(abort);
      });
      if (steal) this.#queue.unshift(request);
      else this.#queue.push(request);
      if (steal) this.#held.get(name)?.end(abort);
      this.#next(name);
    });
  }

  #next(name) {
    if (this.#held.has(name)) return;
    const at = this.#queue.findIndex((request) => request.name === name);
    if (at >= 0) this.#queue.splice(at, 1)[0].grant();
  }
}

/* What a tab has of its browser: the doors that freeze() shuts. */
class Doors {
  frozen = false;
  #waiting = [];

  pass(through) {
    if (this.gone) return;
    if (this.frozen) this.#waiting.push(through);
    else through();
  }

  thaw() {
    this.frozen = false;
    for (const through of this.#waiting.splice(0)) through();
  }
}

function channelBehind(doors) {
  return class extends BroadcastChannel {
    postMessage(message) {
      doors.pass(() => this.closed || super.postMessage(message));
    }

    set onmessage(handler) {
      super.onmessage = handler && (({ data }) => doors.pass(() => handler({ data })));
    }

    close() {
      this.closed = true;
      super.close();
    }
  };
}

function locksBehind(doors, locks) {
  const passed = (promise) => new Promise((resolve, reject) => promise.then((value) => doors.pass(() => resolve(value)), (error) => doors.pass(() => reject(error))));
  return {
    request: (name, options, granted = options) => {
      const behind = (lock) => passed(Promise.resolve(lock)).then(granted);
      return passed(granted === options ? locks.request(name, behind) : locks.request(name, options, behind));
    },
    query: () => passed(locks.query()),
  };
}

let browsers = 0;

/* A server and the tabs of one browser. open(options) gives a connecting tab that records what it is told. */
export async function browser(t) {
  const server = await FakeServer.start();
  const locks = new FakeLocks();
  const name = `browser ${(browsers += 1)}`;
  const tabs = [];
  t.after(async () => {
    for (const tab of tabs) tab.gone ? tab.cleanUp() : (tab.thaw(), tab.close({ keepQueue: true }));
    await server.stop();
  });

  const open = ({ timing, begin = true, ...options } = {}) => {
    const id = `tab ${tabs.length + 1}`;
    const doors = new Doors();
    const sockets = new Set();
    const crash = new AbortController();
    const Socket = class extends WebSocket {
      constructor(...args) {
        if (doors.gone) throw new Error('crashed');
        super(...args);
        sockets.add(this);
      }
    };
    const tab = new SharedParley({
      url: server.url,
      getToken: () => id,
      WebSocket: Socket,
      fetch: async (input, init) => {
        if (doors.gone) throw new Error('crashed');
        return fetch(input, { ...init, signal: AbortSignal.any([init.signal, crash.signal]) });
      },
      name,
      locks: locksBehind(doors, locks.of(id)),
      BroadcastChannel: channelBehind(doors),
      page: null,
      timing: { ...FAST, ...PULSE, ...timing },
      ...options,
    });
    tabs.push(tab);
    Object.assign(tab, { id, seen: [], states: [], gaps: [], signals: [], errors: [] });
    tab.on('event', (event) => doors.gone || tab.seen.push(event.event_id));
    tab.on('state', ({ state }) => tab.states.at(-1) === state || tab.states.push(state));
    tab.on('gap', (gap) => tab.gaps.push(gap));
    tab.on('signal', (signal) => tab.signals.push(signal));
    tab.on('error', (error) => tab.errors.push(error.code));
    tab.freeze = () => (doors.frozen = true);
    tab.thaw = () => doors.thaw();
    tab.crash = () => {
      tab.gone = doors.gone = true;
      for (const socket of sockets) socket.terminate();
      crash.abort();
      locks.crash(id);
    };
    tab.cleanUp = () => tab.close({ keepQueue: true });
    if (begin) tab.connect();
    return tab;
  };

  /* So many tabs, all with the connection's state; the first one leads. */
  const openAll = async (count, options) => {
    const first = open(options);
    await until(() => first.state === 'connected');
    const rest = Array.from({ length: count - 1 }, () => open(options));
    await until(() => rest.every((tab) => tab.state === 'connected'));
    return [first, ...rest];
  };
  return { server, locks, name, open, openAll, tabs };
}

export const leaderOf = (tabs) => tabs.find((tab) => !tab.gone && tab.leader);
