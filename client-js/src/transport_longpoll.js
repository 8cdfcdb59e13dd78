/* The long-poll link: polls in a row, messages by POST /realtime/send. The contract is in transports.js. */
import { GRACE_MS, http } from './http.js';

const SEND_MAX = 100;

export function openLongPoll(env, on) {
  const { timing, rhythm } = env;
  const outbox = [];
  let queueId = env.queueId;
  let over = false;
  let sending = false;
  let paused = false;
  let resume; // set while paused between two polls
  let polling; // the AbortController of the poll under way
  let polledAt;
  let checking = false; // the poll under way is to be asked anew

  function close(why) {
    if (over) return;
    over = true;
    outbox.length = 0;
    polling?.abort();
    on.close(why);
  }

  /* What the server answers at once measures the way there and back. */
  async function timed(...request) {
    const outcome = await http(...request);
    if (outcome.body && !over) on.latency(outcome.tookMs);
    return outcome;
  }

  async function register() {
    polling = new AbortController();
    const { body, why } = await timed(env, 'POST', 'register', polling);
    if (over) return;
    if (why) return close(why);
    queueId = body.queue_id;
    on.message({ ...body, op: 'welcome' });
  }

  /* first: an answer at once proves the link; a held one would leave it in doubt for most of a minute. */
  async function poll(first) {
    const holdS = first || checking ? 0 : rhythm.holdS;
    polling = new AbortController();
    polledAt = Date.now();
    const after = env.position();
    const path = `poll?queue_id=${queueId}${after === undefined ? '' : `&last_event_id=${after}`}&timeout=${holdS}`;
    const timeoutMs = checking ? timing.wakeMs : holdS * 1000 + GRACE_MS;
    checking = false;
    const { body, why } = await (holdS ? http : timed)(env, 'GET', path, { timeoutMs, signal: polling.signal });
    const tookMs = Date.now() - polledAt;
    if (over || checking) return;
    if (why?.cut) rhythm.died('longpoll', tookMs);
    if (why) return close(why);
    deliver(body, first);
    /* Something on the way that answers every poll at once with nothing must not be asked in a tight loop. */
    if (!body.events?.length && !body.signals && holdS && tookMs < timing.idleMs) await pause(timing.idleMs);
  }

  /* A poll's answer as the messages a WebSocket would have carried. */
  function deliver(body, first) {
    const say = (op, fields) => over || on.message({ ...fields, op });
    const { last_event_id, transports, signals = [], goaway } = body;
    if (first) say('welcome', { queue_id: queueId, last_event_id, resumed: true, transports });
    else if (transports) say('transports', body);
    say(body.catchup_required ? 'catchup_required' : 'events', body);
    for (const signal of signals) say('signal', signal);
    if (goaway) say('goaway', goaway);
  }

  async function run() {
    /* Even the first failure is told after open() has returned. */
    await undefined;
    if (!queueId) await register();
    else {
      on.claim();
      await poll(true);
    }
    while (!over) {
      if (paused) await new Promise((resolve) => (resume = resolve));
      else await poll();
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
      const { body, why } = await timed(env, 'POST', `send?queue_id=${queueId}`, { body: batch });
      for (const reply of body?.replies ?? []) on.message({ op: 'reply', ...reply });
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

  run();

  return {
    send(message) {
      outbox.push(message);
      flush();
    },
    /* The connection of a held poll may be dead without a word: it is asked again, to be answered at once. */
    check() {
      if (paused || checking || !queueId || Date.now() - polledAt < timing.wakeMs) return;
      checking = true;
      polling?.abort();
    },
    pause(yes) {
      paused = yes;
      if (!yes) resume?.();
    },
    drop(code) {
      over = true;
      polling?.abort();
      resume?.();
      if (code === 1000 && queueId) http(env, 'POST', `unregister?queue_id=${queueId}`);
    },
  };
}
