// Node's `ws`, a client that Parley did not write, against the real server.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { after, before, test as bareTest } from 'node:test';
import WebSocket from 'ws';
import { Server, mint, sleep } from './harness.mjs';

const test = (name, run) => bareTest(name, { timeout: 120_000 }, run);
const PROTOCOL = 'parley.v1.json';
let server;
let community = 1000;

before(async () => { server = await Server.start(); });
after(() => server.stop());

/** A client whose messages are read one by one; `compress`: what `ws` calls perMessageDeflate. */
class Client {
  constructor({ token, protocols = [PROTOCOL], query = '', compress = true, headers = {} } = {}) {
    if (token) headers = { ...headers, Authorization: `Bearer ${token}` };
    this.socket = new WebSocket(server.ws + query, protocols, { headers, perMessageDeflate: compress });
    this.queue = [];
    this.waiting = [];
    this.closed = new Promise((resolve) => {
      this.socket.on('close', (code, reason) => resolve([code, reason.toString()]));
    });
    this.opened = new Promise((resolve) => { this.socket.on('open', resolve); });
    this.socket.on('error', () => {});
    this.socket.on('message', (data, binary) => {
      assert.equal(binary, false, 'JSON comes in text frames');
      const message = JSON.parse(data);
      if (message.op === 'ping') this.send({ op: 'pong' });
      else if (this.waiting.length) this.waiting.shift()(message);
      else this.queue.push(message);
    });
  }

  send(message, options) {
    this.socket.send(JSON.stringify(message), options);
  }

  next() {
    if (this.queue.length) return Promise.resolve(this.queue.shift());
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('no message within 5 s')), 5000);
      this.waiting.push((message) => { clearTimeout(timer); resolve(message); });
    });
  }

  async expect(op) {
    const message = await this.next();
    assert.equal(message.op, op, JSON.stringify(message));
    return message;
  }

  async close(code = 1000) {
    this.socket.close(code);
    return this.closed;
  }
}

async function open(options = {}) {
  const client = new Client({ token: mint(7, [community]), ...options });
  client.welcome = await client.expect('welcome');
  return client;
}

test('welcome, an event, and a clean close', async () => {
  const client = await open();
  assert.equal(client.socket.protocol, PROTOCOL);
  assert.deepEqual(client.welcome.communities, [community]);
  const id = await server.publish(community, { article_id: 789, text: 'Grüße 😀' });
  const { events, last_event_id: last } = await client.expect('events');
  assert.deepEqual(events.map((e) => e.event_id), [id]);
  assert.equal(events[0].data.text, 'Grüße 😀');
  assert.ok(last >= id);
  assert.equal((await client.close())[0], 1000);
});

test('compression is negotiated and carries big messages both ways', async () => {
  for (const compress of [true, false, { clientNoContextTakeover: true, serverNoContextTakeover: true },
    { serverMaxWindowBits: 15, threshold: 0 }, { serverMaxWindowBits: 10, threshold: 0 }]) {
    const client = await open({ compress, token: mint(7, [++community], { scope: 'publish' }) });
    if (compress === true) assert.match(client.socket.extensions, /permessage-deflate/);
    if (compress === false) assert.equal(client.socket.extensions, '');
    for (const size of [10, 600, 5000, 40000]) {
      const text = randomBytes(size / 2).toString('hex');
      client.send({ op: 'publish', id: size, type: 'x', data: { community_id: community, text } });
      const reply = await client.expect('reply');
      assert.equal(reply.id, size);
      assert.ok(Number.isSafeInteger(reply.result.event_id), JSON.stringify(reply));
      await server.publish(community, { text });
      assert.equal((await client.expect('events')).events[0].data.text, text);
    }
    await client.close();
  }
});

test('a message in fragments, compressed and not, is one message', async () => {
  for (const compress of [true, false]) {
    const client = await open({ compress });
    const text = JSON.stringify({ op: 'subscribe', id: 'f', community_id: community, filler: 'abc'.repeat(700) });
    for (let i = 0; i < text.length; i += 100) {
      client.socket.send(text.slice(i, i + 100), { fin: i + 100 >= text.length, binary: false, compress });
      if (i === 500) client.socket.ping('between');
    }
    assert.equal((await client.expect('reply')).id, 'f');
    await client.close();
  }
});

test('control pings are answered with their payload', async () => {
  const client = await open();
  const pong = once(client.socket, 'pong');
  client.socket.ping('payload');
  assert.equal((await pong)[0].toString(), 'payload');
  await client.close();
});

async function hello(fields) {
  const client = new Client();
  await client.opened;
  client.send({ op: 'hello', ...fields });
  return client;
}

test('hello opens, resumes, and is refused with a code', async () => {
  const first = await hello({ token: mint(7, [community]) });
  const welcome = await first.expect('welcome');
  first.socket.terminate();
  const id = await server.publish(community);

  const second = await hello({ queue_id: welcome.queue_id, last_event_id: welcome.last_event_id });
  assert.equal((await second.expect('welcome')).resumed, true);
  assert.deepEqual((await second.expect('events')).events.map((e) => e.event_id), [id]);
  await second.close();

  const third = await hello({ queue_id: welcome.queue_id });
  assert.deepEqual(await third.closed, [4404, 'queue_not_found']);

  const fourth = await hello({ token: 'x.y.z' });
  const [code, reason] = await fourth.closed;
  assert.equal(code, 4401);
  assert.match(reason, /^token_invalid/);
});

test('a refused handshake has a status and a body', async () => {
  for (const [headers, protocols, status, code] of [
    [{ Origin: 'https://evil.example' }, [PROTOCOL], 403, 'origin_forbidden'],
    [{}, ['graphql-ws'], 400, undefined]]) {
    const client = new Client({ headers, protocols });
    const [, response] = await once(client.socket, 'unexpected-response');
    assert.equal(response.statusCode, status);
    const body = JSON.parse(Buffer.concat(await response.toArray()));
    assert.ok(body.message);
    if (code) assert.equal(body.code, code);
    client.socket.terminate();
  }
});

test('a hundred clients get a hundred events in order', async () => {
  community += 1;
  const clients = await Promise.all(Array.from({ length: 100 }, () => open()));
  const ids = [];
  for (let i = 0; i < 100; i += 1) ids.push(await server.publish(community, { n: i, pad: 'x'.repeat(i * 20) }));
  for (const client of clients) {
    const got = [];
    while (got.length < ids.length) got.push(...(await client.expect('events')).events.map((e) => e.event_id));
    assert.deepEqual(got, ids);
  }
  await Promise.all(clients.map((client) => client.close()));
});

test('a paused reader loses nothing', async () => {
  const client = await open();
  client.socket.pause();
  const ids = [];
  for (let i = 0; i < 60; i += 1) ids.push(await server.publish(community, { n: i, pad: randomBytes(10000).toString('hex') }));
  await sleep(200);
  client.socket.resume();
  const got = [];
  while (got.length < ids.length) got.push(...(await client.expect('events')).events.map((e) => e.event_id));
  assert.deepEqual(got, ids);
  await client.close();
});
