import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import { msgpack } from '../src/msgpack.js';
import { connected, listening, setup, until } from './helpers.js';

test('what JSON carries, MessagePack carries: no undefined fields, integers as numbers', () => {
  const message = { op: 'hello', last_event_id: 2 ** 53 - 1, text: 'ä', list: [1, -1, 1.5, null, true] };
  assert.deepEqual(msgpack.decode(msgpack.encode({ ...message, token: undefined })), message);
});

for (const transport of ['websocket', 'longpoll']) {
  test(`${transport}: events, requests, errors and the position travel in MessagePack`, async (t) => {
    const { server, open } = await setup(t);
    const client = open({ transports: [transport], codec: msgpack });
    await listening(server, client);
    if (transport === 'websocket') assert.equal(server.connections[0].codec, 'msgpack');
    const first = server.publish({ text: 'ä' });
    await until(() => client.seen.length === 1);
    assert.equal(client.lastEventId, first.event_id);
    assert.ok((await client.publish({ type: 'x', data: { n: 1 } })).event_id);
    assert.deepEqual(server.messages.find(({ op }) => op === 'publish').data, { n: 1 });
    assert.ok(await client.catchup(({ cursor }) => cursor));
    server.queues.clear();
    client.cut();
    const missed = server.publish();
    await until(() => client.seen.length === 2);
    assert.equal(client.seen[1], missed.event_id);
  });
}

test('a browser is asked for bytes, not for blobs', async (t) => {
  const { open } = await setup(t);
  const sockets = [];
  class Watched extends WebSocket {
    constructor(...args) {
      super(...args);
      sockets.push(this);
    }
  }
  await connected(open({ codec: msgpack, WebSocket: Watched }), 'websocket');
  assert.equal(sockets[0].binaryType, 'arraybuffer');
});

test('a page of a proxy in between is understood as what it is', async (t) => {
  const pages = [new Response('<html>502</html>', { status: 502 })];
  const { open } = await setup(t);
  const client = open({ transports: ['longpoll'], codec: msgpack, fetch: async (...args) => pages.shift() ?? fetch(...args) });
  await until(() => client.states.includes('waiting'));
  await connected(client);
});
