import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Parley } from '../src/index.js';

test('what is missing or wrong is said when the client is made', () => {
  assert.throws(() => new Parley({ url: '/relative', getToken: () => '' }), TypeError);
  assert.throws(() => new Parley({ url: 'ws://localhost', getToken: () => '' }), /http/);
  assert.throws(() => new Parley({ url: 'http://localhost' }), /getToken, register or queue/);
});

test('a client does nothing until it is told to connect', () => {
  const client = new Parley({ url: 'http://localhost:1', getToken: () => assert.fail('called') });
  assert.deepEqual([client.state, client.transport, client.lastEventId, client.queueId], ['idle', undefined, undefined, undefined]);
  client.close();
  assert.equal(client.state, 'closed');
});
