import assert from 'node:assert/strict';
import { test } from 'node:test';
import { actionOf, closeOfHttp } from '../src/codes.js';
import { parseReason } from '../src/transport_websocket.js';

test('close codes alone lead to what the protocol page says', () => {
  const table = {
    token: [4401],
    stop: [4403, 4409, 1000, 4499],
    register: [4404],
    backoff: [4408, 1001, 1005, 1006, 1011, 1012, 1013, 4429, 3000, 4000],
    once: [4400, 4413, 1002, 1007, 1009],
  };
  for (const [action, closes] of Object.entries(table)) for (const close of closes) assert.equal(actionOf(close), action, `${close}`);
});

test('a known error code says more than the close code it came with', () => {
  assert.equal(actionOf(4400, 'bad_message'), 'once');
  assert.equal(actionOf(4400, 'not_found'), 'stop');
  assert.equal(actionOf(4400, 'never heard of'), 'once');
  assert.equal(actionOf(4400, 'toString'), 'once');
});

test('an HTTP answer becomes the close code a WebSocket would have got', () => {
  assert.equal(closeOfHttp(404, 'queue_not_found'), 4404);
  assert.equal(closeOfHttp(409, 'replaced'), 4409);
  assert.equal(closeOfHttp(401), 4401);
  assert.equal(closeOfHttp(429), 4429);
  assert.equal(closeOfHttp(503), 1013);
  assert.equal(closeOfHttp(502), 1011);
  assert.equal(closeOfHttp(418), 4400);
});

test('a close reason carries a code and perhaps a wait', () => {
  assert.deepEqual(parseReason('rate_limited;retry_after_ms=1500'), { error: 'rate_limited', retryAfterMs: 1500 });
  assert.deepEqual(parseReason('replaced'), { error: 'replaced', retryAfterMs: undefined });
  assert.deepEqual(parseReason('draining;x=1;retry_after_ms=7'), { error: 'draining', retryAfterMs: 7 });
  assert.deepEqual(parseReason(''), { error: undefined, retryAfterMs: undefined });
  assert.deepEqual(parseReason('x;retry_after_ms=-1').retryAfterMs, undefined);
});
