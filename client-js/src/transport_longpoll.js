/* The long-poll link: polls in a row, messages by POST /realtime/send. The contract is in transports.js. */
import { closeOfHttp } from './codes.js';

const SEND_MAX = 100;

/* The longest an answer may take beyond the hold that was asked for. */
const GRACE_MS = 15_000;

export function openLongPoll(env, on) {
  const { fetch, timing, token } = env;
  const polling = new AbortController();
  const outbox = [];
  let queueId = env.queueId;
  let over = false;
  let sending = false;
  let resume; // set while paused between two polls
  let paused = false;

  function close(why) {
    if (over) return;
    over = true;
    polling.abort();
    on.close(why);
  }

  /* Resolves to { body } of a 200, or to { why } it failed: never rejects. */
  async function request(method, path, { query = {}, body, holdMs = 0, abort } = {}) {
    const deadline = new AbortController();
    const stop = () => deadline.abort();
    const timer = setTimeout(stop, holdMs + GRACE_MS);
    abort?.addEventListener('abort', stop);
    const given = Object.entries(query).filter(([, value]) => value !== undefined);
    const headers = { Accept: 'application/json' };
    if (token) headers.Authorization = `Bearer ${token}`;
    if (body) headers['Content-Type'] = 'application/json';
    try {
      const response = await fetch(`${env.url}${path}?${new URLSearchParams(given)}`, {
        method,
        headers,
        body: body && JSON.stringify(body),
        cache: 'no-store',
        signal: deadline.signal,
      });
      const text = await response.text();
      return response.ok ? { body: JSON.parse(text) ?? {} } : { why: refusal(response, text) };
    } catch (error) {
      return { why: { close: 1006, message: String(error?.message ?? error) } };
    } finally {
      clearTimeout(timer);
      abort?.removeEventListener('abort', stop);
    }
  }

  async function register() {
    const { body, why } = await request('POST', '/realtime/register', { abort: polling.signal });
    if (over) return false;
    if (why) return close(why);
    queueId = body.queue_id;
    on.message({ ...body, op: 'welcome' });
    return !over;
  }

  async function poll(holdS) {
    const started = Date.now();
    const query = { queue_id: queueId, last_event_id: env.position(), timeout: holdS };
    const { body, why } = await request('GET', '/realtime/poll', { query, holdMs: holdS * 1000, abort: polling.signal });
    if (over) return;
    if (why) return close(why);
    deliver(body, holdS);
    /* Something on the way that answers every poll at once with nothing must not be asked in a tight loop. */
    const empty = !body.events?.length && !body.catchup_required && !body.signals && !body.goaway;
    if (empty && holdS && Date.now() - started < timing.idleMs) await pause(timing.idleMs);
  }

  /* A poll's answer as the messages a WebSocket would have carried. */
  function deliver(body, holdS) {
    const { transports } = body;
    const messages = [];
    if (!holdS) messages.push({ op: 'welcome', queue_id: queueId, last_event_id: body.last_event_id, resumed: true, transports });
    else if (transports) messages.push({ op: 'transports', transports });
    messages.push({ ...body, op: body.catchup_required ? 'catchup_required' : 'events' });
    for (const signal of body.signals ?? []) messages.push({ ...signal, op: 'signal' });
    if (body.goaway) messages.push({ ...body.goaway, op: 'goaway' });
    for (const message of messages) if (!over) on.message(message);
  }

  async function run() {
    /* Even the first failure is told after open() has returned. */
    await undefined;
    if (!queueId) {
      if (!(await register())) return;
    } else {
      /* An answer at once proves the link; a held one would leave it in doubt for most of a minute. */
      on.claim();
      await poll(0);
    }
    while (!over) {
      if (paused) await new Promise((resolve) => (resume = resolve));
      else await poll(timing.holdS);
    }
  }

  function pause(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      polling.signal.addEventListener('abort', () => (clearTimeout(timer), resolve()));
    });
  }

  /* One request at a time: a subscribe and its unsubscribe must not overtake each other. */
  async function flush() {
    if (sending) return;
    sending = true;
    await undefined;
    while (outbox.length) {
      const batch = outbox.splice(0, SEND_MAX);
      const { body, why } = await request('POST', '/realtime/send', { query: { queue_id: queueId }, body: batch });
      for (const reply of body?.replies ?? []) on.message({ ...reply, op: 'reply' });
      if (why) refuse(batch, why);
    }
    sending = false;
  }

  /* What concerns the link ends it; what concerns these messages only is their reply. */
  function refuse(batch, why) {
    if ([1006, 1011, 4401, 4404].includes(why.close)) return close(why);
    const error = { code: why.error ?? 'refused', message: why.message, retry_after_ms: why.retryAfterMs };
    for (const { id } of batch) if (id !== undefined) on.message({ op: 'reply', id, error });
  }

  function refusal(response, text) {
    let body = {};
    try {
      body = JSON.parse(text) ?? {};
    } catch {
      /* A proxy's page. */
    }
    const error = body.code ?? (response.status === 404 && queueId ? 'queue_not_found' : undefined);
    const after = Number(response.headers.get('Retry-After') || NaN) * 1000;
    return {
      close: closeOfHttp(response.status, error),
      error,
      message: body.message ?? `HTTP ${response.status}`,
      retryAfterMs: body.retry_after_ms ?? (after >= 0 ? after : undefined),
    };
  }

  run();

  return {
    send(message) {
      outbox.push(message);
      flush();
    },
    pause(yes) {
      paused = yes;
      if (!yes) resume?.();
    },
    drop(code) {
      over = true;
      polling.abort();
      if (code === 1000 && queueId) request('POST', '/realtime/unregister', { query: { queue_id: queueId } });
    },
  };
}
