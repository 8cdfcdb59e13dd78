/* The WebSocket link. The contract is in transports.js. */

const SUBPROTOCOL = 'parley.v1.json';

/* A close reason is `code` or `code;retry_after_ms=N`. */
export function parseReason(reason) {
  const [error, ...fields] = (reason ?? '').split(';');
  const wish = fields.map((field) => /^retry_after_ms=(\d+)$/.exec(field)).find(Boolean);
  return { error: error || undefined, retryAfterMs: wish ? Number(wish[1]) : undefined };
}

export function openWebSocket(env, on) {
  const { timing, WebSocket } = env;
  const socket = new WebSocket(`${env.url.replace(/^http/, 'ws')}/realtime/ws`, [SUBPROTOCOL]);
  let over = false;
  let heardAt = 0;
  let timer = setTimeout(() => lose('connect_timeout'), timing.connectMs);

  function finish() {
    over = true;
    clearTimeout(timer);
    socket.onopen = socket.onmessage = socket.onclose = null;
    /* A socket closed while it connects still reports an error; unheard, it is an exception in Node. */
    socket.onerror = () => {};
  }

  /* A dead network answers no closing handshake, so nothing here waits for one. */
  function lose(message, close = 1006) {
    if (over) return;
    finish();
    socket.close(4000);
    on.close({ close, message });
  }

  function watch(periodMs) {
    clearTimeout(timer);
    const check = () => {
      const left = heardAt + periodMs - Date.now();
      if (left <= 0) lose('silent');
      else timer = setTimeout(check, left);
    };
    check();
  }

  function send(message) {
    if (socket.readyState === 1) socket.send(JSON.stringify(message));
  }

  socket.onopen = () => {
    clearTimeout(timer);
    timer = setTimeout(() => lose('welcome_timeout'), timing.welcomeMs);
    on.claim();
    /* The token goes in the first message: a URL ends in logs. */
    send({ op: 'hello', token: env.token, queue_id: env.queueId, last_event_id: env.position() });
  };

  socket.onmessage = ({ data }) => {
    heardAt = Date.now();
    let message;
    try {
      message = JSON.parse(data) ?? {};
    } catch {
      return lose('not JSON', 1007);
    }
    if (message.op === 'welcome') watch(2 * (message.ping_interval_ms ?? timing.pingMs));
    if (message.op === 'ping') send({ op: 'pong' });
    on.message(message);
  };

  socket.onerror = () => {};

  socket.onclose = ({ code, reason }) => {
    finish();
    on.close({ close: code, ...parseReason(reason) });
  };

  return {
    send,
    pause() {},
    drop(close = 4000) {
      if (over) return;
      finish();
      socket.close(close);
    },
  };
}
