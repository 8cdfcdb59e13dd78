/* React hooks. The client lives outside of React; these say when it connects, who listens and what is shown. */
import { createContext, createElement, useContext, useEffect, useInsertionEffect, useRef, useSyncExternalStore } from 'react';

const Context = createContext(null);

const IDLE = Object.freeze({ state: 'idle', transport: undefined, node: undefined, latency: undefined, leader: undefined });

export function ParleyProvider({ value, children }) {
  useEffect(() => hold(value), [value]);
  return createElement(Context.Provider, { value }, children);
}

export function useParley() {
  const parley = useContext(Context);
  if (!parley) throw new Error('useParley: there is no <ParleyProvider> above');
  return parley;
}

export function useEvents(topic, handler, { onGap } = {}) {
  const parley = useParley();
  const latest = useLatest({ handler, onGap });
  const listens = Boolean(topic);
  const { community, article } = topic || {};
  useEffect(() => {
    if (!listens) return undefined;
    const onEvent = (event) => latest.current.handler(event);
    const undo = [
      community === undefined ? parley.on('event', onEvent) : parley.subscribe({ community, article }, onEvent),
      parley.on('gap', (gap) => concerns(gap, { community, article }) && latest.current.onGap?.(gap)),
    ];
    return () => undo.forEach((off) => off());
  }, [parley, listens, community, article, latest]);
}

export function useConnection() {
  const { subscribe, snapshot } = storeOf(useParley());
  return useSyncExternalStore(subscribe, snapshot, () => IDLE);
}

/* Written before any effect of the same commit can call it, and not while rendering: a render may be thrown away. */
function useLatest(value) {
  const ref = useRef(value);
  useInsertionEffect(() => {
    ref.current = value;
  });
  return ref;
}

/* Whether events of the topic may be among those that were missed. */
function concerns(gap, { community, article }) {
  if (community !== undefined && gap.communities && !gap.communities.includes(community)) return false;
  return article === undefined || !gap.articles || gap.articles.includes(article);
}

/* ------------------------------------------------------------------------------------ connect and close */

const holds = new WeakMap(); // client -> { count, closing }

/* Connects a client that nobody has connected, and closes it when the last provider is gone. Closing waits for a
 * turn: Strict Mode and a moved provider unmount and mount again at once. */
function hold(parley) {
  let held = holds.get(parley);
  if (!held && parley.state !== 'idle') return undefined;
  if (!held) {
    held = { count: 0, closing: undefined };
    holds.set(parley, held);
    parley.connect();
  }
  held.count += 1;
  clearTimeout(held.closing);
  return () => {
    held.count -= 1;
    if (held.count === 0) held.closing = setTimeout(() => release(parley), 0);
  };
}

function release(parley) {
  holds.delete(parley);
  parley.close();
}

/* ------------------------------------------------------------------------------------------- useConnection */

const stores = new WeakMap(); // client -> what useSyncExternalStore needs, the same for every component

function storeOf(parley) {
  if (!stores.has(parley)) stores.set(parley, createStore(parley));
  return stores.get(parley);
}

function createStore(parley) {
  const listeners = new Set();
  let shown = IDLE;
  let stop;

  function snapshot() {
    const { state, transport, node, latency, leader } = parley;
    const now = { state, transport, node, latency, leader };
    if (Object.keys(now).some((key) => now[key] !== shown[key])) shown = now;
    return shown;
  }

  function start() {
    const tell = () => listeners.forEach((listener) => listener());
    const undo = ['state', 'latency'].map((name) => parley.on(name, tell));
    return () => undo.forEach((off) => off());
  }

  function subscribe(listener) {
    listeners.add(listener);
    if (listeners.size === 1) stop = start();
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) stop();
    };
  }

  return { subscribe, snapshot };
}
