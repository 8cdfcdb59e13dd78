/* The WebSocket link. The contract is in transports.js. */

/* A close reason is `code` or `code;retry_after_ms=N`. */
export function parseReason(reason) {
  const [, error, wish] = /^([^;]*)(?:.*;retry_after_ms=(\d+))?/.exec(reason ?? '');
  return { error: error || undefined, retryAfterMs: wish && Number(wish) };
}

export function openWebSocket(env, on) {
  const { timing, codec, rhythm, WebSocket } = env;
  const socket = new WebSocket(`${env.url.replace(/^http/, 'ws')}/realtime/ws`, [`parley.v1.${codec.name}`]);
  socket.binaryType = 'arraybuffer';
  let over = false;
  let heardAt = 0;
  let periodMs; // from one message to the next, at most; known from the welcome on
  let pingedAt;
  let pinger;
  let timer;

  function within(ms, otherwise = lose) {
    clearTimeout(timer);
    timer = setTimeout(otherwise, ms);
  }

  function finish() {
    over = true;
    clearTimeout(timer);
    clearTimeout(pinger);
    socket.onopen = socket.onmessage = socket.onclose = null;
  }

  /* A dead network answers no closing handshake, so nothing here waits for one. */
  function lose(close = 1006) {
    finish();
    socket.close(4000);
    on.close({ close, cut: close === 1006 });
  }

  /* Silence is no proof: a machine that slept has heard nothing either. It is when a ping goes unanswered. */
  function check(withinMs = timing.wakeMs) {
    if (over || !periodMs) return;
    within(withinMs);
    ping();
  }

  function ping() {
    clearTimeout(pinger);
    /* The server, too, counts what it has not heard. */
    pinger = setTimeout(ping, Math.min(rhythm.pingMs, periodMs / 2));
    pingedAt = Date.now();
    send({ op: 'ping' });
  }

  function send(message) {
    if (socket.readyState === 1) socket.send(codec.encode(message));
  }

  within(timing.connectMs);

  socket.onopen = () => {
    within(timing.welcomeMs);
    on.claim();
    /* The token goes in the first message: a URL ends in logs. */
    send({ op: 'hello', token: env.token(), queue_id: env.queueId, last_event_id: env.position() });
  };

  socket.onmessage = ({ data }) => {
    heardAt = Date.now();
    let message;
    try {
      message = codec.decode(data) ?? {};
    } catch {
      return lose(1007);
    }
    const { op } = message;
    if (op === 'welcome') {
      periodMs = 2 * (message.ping_interval_ms ?? timing.pingMs);
      /* Proxies were seen that let the first message through and nothing after it. */
      check(timing.welcomeMs);
    } else if (periodMs) within(periodMs, check);
    if (op === 'ping') send({ op: 'pong' });
    if (op === 'pong' && pingedAt) {
      on.latency(heardAt - pingedAt);
      pingedAt = 0;
    }
    on.message(message);
  };

  /* Kept to the end: a socket closed while it connects still reports an error; unheard, it is an exception in Node. */
  socket.onerror = () => {};

  socket.onclose = ({ code, reason }) => {
    const cut = code === 1005 || code === 1006;
    finish();
    if (cut && periodMs) rhythm.died('websocket', Date.now() - heardAt);
    on.close({ close: code, cut, ...parseReason(reason) });
  };

  return {
    send,
    check,
    pause() {},
    drop(close) {
      if (over) return;
      finish();
      socket.close(close);
    },
  };
}
