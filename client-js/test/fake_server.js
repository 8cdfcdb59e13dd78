/* A server that speaks the protocol just well enough to be tested against, and breaks it on demand. It knows one
 * log of events and any number of queues; every queue is granted everything and narrows as it is told.
 * How to use and extend it: README.md in this folder.
 *
 *   const server = await FakeServer.start()      await server.stop()      await server.listen()
 *   server.url, server.connections               what was opened: { transport, hello?, codec?, hold? }, in order
 *   server.requests                              'METHOD /path' of every HTTP request but upgrades
 *   server.messages, server.pings                every client message over either transport; pings are only counted
 *   server.authorizations                        the tokens that HTTP requests came with
 *   server.publish(data, { type, community })    appends an event and delivers it; returns the event
 *   server.closeSockets(code, reason)            server.tell(message)  to every socket, or held poll
 *   server.script(path, status, body, headers)   the next request to this path is answered so (status 0: cut off)
 *
 * Levers, changed at any time:
 *   websocket      'open' | 'refuse' (403 before the upgrade) | 'silent' (opens, says nothing) | 'short' (cut after
 *                  shortMs) | 'mute' (welcomes, and says nothing more)
 *   deaf           true: whatever arrives over open links is neither answered nor even seen, as after a sleep; of a
 *                  socket's messages, unheard counts them
 *   idleCutMs      new connections are destroyed after so long without a byte, as by a proxy
 *   transports, pingMs, shortMs, tokens (a Set of the good ones, undefined: any), tokenLifeMs (what welcome and refresh say) */
import { createServer } from 'node:http';
import { decode, encode } from '@msgpack/msgpack';
import { WebSocketServer } from 'ws';

const CODECS = {
  json: { type: 'application/json', encode: JSON.stringify, decode: (data) => JSON.parse(data) },
  msgpack: { type: 'application/msgpack', encode: (value) => encode(value, { ignoreUndefined: true }), decode: (data) => decode(data) },
};

export class FakeServer {
  websocket = 'open';
  transports = ['websocket', 'longpoll'];
  pingMs = 25_000;
  shortMs = 20;
  tokens;
  tokenLifeMs;
  deaf = false;
  unheard = 0;
  idleCutMs = 0;
  log = [];
  queues = new Map();
  connections = [];
  requests = [];
  messages = [];
  pings = 0;
  authorizations = [];
  #scripts = [];
  #links = new Set();
  #sockets = new Set();
  #lastId = 1000;
  #http;
  #ws = new WebSocketServer({ noServer: true, handleProtocols: (offered) => [...offered].find((name) => CODECS[name.replace('parley.v1.', '')]) ?? false });

  static async start({ port = 0, fallback } = {}) {
    const server = new FakeServer();
    server.fallback = fallback;
    await server.listen(port);
    return server;
  }

  listen(port = this.port) {
    this.#http = createServer((request, response) => this.#onRequest(request, response).catch((error) => response.destroy(error)));
    this.#http.on('connection', (socket) => {
      this.#sockets.add(socket.on('close', () => this.#sockets.delete(socket)));
      if (this.idleCutMs) socket.setTimeout(this.idleCutMs, () => socket.destroy());
    });
    this.#http.on('upgrade', (request, socket, head) => this.#onUpgrade(request, socket, head));
    return new Promise((resolve) => {
      this.#http.listen(port, '127.0.0.1', () => {
        this.port = this.#http.address().port;
        this.url = `http://127.0.0.1:${this.port}`;
        resolve();
      });
    });
  }

  /* Everything is cut off at once, as when the process is killed. Queues and log are kept for listen(). */
  stop() {
    this.#links.clear();
    for (const socket of this.#sockets) socket.destroy();
    return new Promise((resolve) => this.#http.close(resolve));
  }

  publish(data = {}, { type = 'new_comment', community = 42, except } = {}) {
    const event = {
      event_id: (this.#lastId += 10),
      type,
      timestamp: '2026-01-01T00:00:00.000Z',
      community_ids: [community],
      data: { community_id: community, ...data },
    };
    this.log.push(event);
    for (const link of [...this.#links]) if (link.queue !== except) this.#pull(link);
    if (except) except.skip.add(event.event_id);
    return event;
  }

  /* Sends an event again that was sent before, as after a lost answer. */
  repeat(event) {
    this.tell({ op: 'events', events: [event], last_event_id: event.event_id });
  }

  reaches(queueId) {
    return [...this.#links].some(({ queue }) => queue.id === queueId);
  }

  tell(message) {
    for (const link of [...this.#links]) {
      link.queue.position = message.last_event_id ?? link.queue.position;
      link.send(message);
    }
  }

  closeSockets(code, reason) {
    for (const link of [...this.#links]) link.close?.(code, reason);
  }

  script(path, status, body, headers) {
    this.#scripts.push({ path, status, body, headers });
  }

  /* -------------------------------------------------------------------------------------------- queues */

  #register() {
    const queue = { id: `q${this.queues.size + 1}`, position: this.#lastId, skip: new Set(), narrowed: new Map() };
    this.queues.set(queue.id, queue);
    return queue;
  }

  #attach(queue, link) {
    for (const other of [...this.#links]) if (other.queue === queue) other.replace();
    link.queue = queue;
    this.#links.add(link);
    this.#pull(link);
  }

  #pull(link) {
    const { queue } = link;
    const due = this.log.filter((event) => event.event_id > queue.position && !queue.skip.has(event.event_id) && concerns(queue, event));
    if (!due.length) return;
    queue.position = this.#lastId;
    link.send({ op: 'events', events: due, last_event_id: this.#lastId });
  }

  #answer(queue, message) {
    if (message.op === 'ping') {
      this.pings += 1;
      return { op: 'pong', last_event_id: queue.position };
    }
    this.messages.push(message);
    const { op, id, community_id: community, article_id: article } = message;
    const reply = (result) => ({ op: 'reply', id, result });
    if (op === 'publish') return reply({ event_id: this.publish(message.data, { type: message.type, except: queue }).event_id });
    if (op === 'refresh') {
      if (this.tokens && !this.tokens.has(message.token)) return { op: 'reply', id, error: { code: 'token_invalid', message: 'not a good token' } };
      return reply({ token_expires_in_ms: this.tokenLifeMs });
    }
    if (op === 'subscribe') {
      const held = queue.narrowed.get(community);
      queue.narrowed.set(community, article === undefined ? undefined : (held ?? new Set()).add(article));
      return reply({});
    }
    if (op === 'unsubscribe') {
      if (article === undefined) queue.narrowed.set(community, new Set());
      else queue.narrowed.get(community)?.delete(article);
      return reply({});
    }
    return undefined;
  }

  /* ---------------------------------------------------------------------------------------- WebSocket */

  #onUpgrade(request, socket, head) {
    if (this.websocket === 'refuse') return socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n');
    this.#ws.handleUpgrade(request, socket, head, (ws) => {
      if (this.idleCutMs) socket.setTimeout(this.idleCutMs);
      const name = (ws.protocol || 'parley.v1.json').replace('parley.v1.', '');
      const codec = CODECS[name];
      const connection = { transport: 'websocket', url: request.url, codec: name };
      this.connections.push(connection);
      if (this.websocket === 'silent') return;
      if (this.websocket === 'short') setTimeout(() => socket.destroy(), this.shortMs);
      const link = {
        send: (message) => link.silent || this.deaf || ws.send(codec.encode(message)),
        close: (code, reason) => (this.#links.delete(link), ws.close(code, reason)),
        replace: () => link.close(4409, 'replaced'),
      };
      ws.on('close', () => this.#links.delete(link));
      ws.on('message', (data) => {
        if (this.deaf || link.silent) return void (this.unheard += 1);
        const message = codec.decode(data);
        if (message.op === 'hello') return this.#hello(link, (connection.hello = message));
        const reply = this.#answer(link.queue, message);
        if (reply) link.send(reply);
      });
    });
  }

  #hello(link, { token, queue_id: queueId, last_event_id: position }) {
    if (token && this.tokens && !this.tokens.has(token)) return link.close(4401, 'token_expired');
    const found = this.queues.get(queueId);
    if (!found && !token) return link.close(4404, 'queue_not_found');
    const queue = found ?? this.#register();
    if (position !== undefined) queue.position = position;
    const { transports, pingMs, tokenLifeMs } = this;
    link.send({
      op: 'welcome',
      queue_id: queue.id,
      last_event_id: queue.position,
      resumed: !!found,
      communities: [42],
      transports,
      ping_interval_ms: pingMs,
      token_expires_in_ms: tokenLifeMs,
      node: 'fake',
    });
    link.silent = this.websocket === 'mute';
    this.#attach(queue, link);
  }

  /* --------------------------------------------------------------------------------------------- HTTP */

  async #onRequest(request, response) {
    const url = new URL(request.url, this.url);
    const body = await readAll(request);
    this.requests.push(`${request.method} ${url.pathname}`);
    const codec = request.headers.accept?.includes('msgpack') ? CODECS.msgpack : CODECS.json;
    const answer = (status, value, headers) => {
      if (this.deaf) return;
      response.writeHead(status, { 'Content-Type': codec.type, ...headers });
      response.end(codec.encode(value));
    };
    const read = () => (request.headers['content-type']?.includes('msgpack') ? CODECS.msgpack : CODECS.json).decode(body);
    const at = this.#scripts.findIndex(({ path }) => path === url.pathname);
    if (at >= 0) {
      const [{ status, body: scripted, headers }] = this.#scripts.splice(at, 1);
      return status ? answer(status, scripted, headers) : response.destroy();
    }
    const token = request.headers.authorization?.replace('Bearer ', '');
    this.authorizations.push(token);
    if (this.tokens && url.pathname !== '/realtime/health' && !this.tokens.has(token)) return answer(401, { code: 'token_expired', message: 'the token has expired' });
    const route = this[`${request.method} ${url.pathname}`] ?? this.fallback;
    if (!route) return answer(404, { code: 'not_found', message: 'no such path' });
    await route.call(this, { url, body, read, response, answer });
  }

  'GET /realtime/health'({ answer }) {
    answer(200, { status: 'healthy' });
  }

  'GET /realtime/cursor'({ answer }) {
    answer(200, { last_event_id: this.#lastId });
  }

  'POST /realtime/register'({ answer }) {
    const queue = this.#register();
    const { transports, pingMs } = this;
    answer(200, { queue_id: queue.id, last_event_id: queue.position, communities: [42], resumed: false, transports, ping_interval_ms: pingMs, node: 'fake' });
  }

  'GET /realtime/poll'({ url, response, answer }) {
    const queue = this.queues.get(url.searchParams.get('queue_id'));
    if (!queue) return answer(404, { code: 'queue_not_found', message: 'register again' });
    const hold = Number(url.searchParams.get('timeout') ?? 60);
    this.connections.push({ transport: 'longpoll', url: requestLine(url), hold });
    if (url.searchParams.has('last_event_id')) queue.position = Number(url.searchParams.get('last_event_id'));
    const offer = (body) => ({ ...body, transports: this.transports });
    let timer;
    const finish = (status, value) => {
      clearTimeout(timer);
      this.#links.delete(link);
      answer(status, value);
    };
    const link = {
      send({ op, ...body }) {
        if (op === 'goaway') finish(200, offer({ events: [], last_event_id: queue.position, goaway: body }));
        else if (op === 'signal') finish(200, offer({ events: [], last_event_id: queue.position, signals: [body] }));
        else finish(200, offer(body));
      },
      replace: () => finish(409, { code: 'replaced', message: 'a newer link took over' }),
    };
    response.on('close', () => {
      clearTimeout(timer);
      this.#links.delete(link);
    });
    this.#attach(queue, link);
    if (response.writableEnded) return;
    const nothing = () => finish(200, offer({ events: [], last_event_id: queue.position }));
    if (hold) timer = setTimeout(nothing, hold * 1000);
    else nothing();
  }

  'POST /realtime/send'({ url, read, answer }) {
    const queue = this.queues.get(url.searchParams.get('queue_id'));
    if (!queue) return answer(404, { code: 'queue_not_found', message: 'register again' });
    const replies = [read()].flat().map((message) => this.#answer(queue, message));
    answer(200, { replies: replies.filter(Boolean) });
  }

  'POST /realtime/unregister'({ url, answer }) {
    this.queues.delete(url.searchParams.get('queue_id'));
    answer(200, { message: 'ok' });
  }
}

function requestLine(url) {
  return `${url.pathname}${url.search}`;
}

function concerns(queue, event) {
  const narrowed = queue.narrowed.get(event.community_ids[0]);
  return !narrowed || narrowed.has(event.data.article_id);
}

async function readAll(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}
