import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ERRORS, actionOf } from '../src/codes.js';
import { closeOfHttp, reaction } from '../src/rules.js';
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

test('the rules say what the table says, over either transport', () => {
  const overHttpOnly = new Set(['not_found', 'method_not_allowed', 'idempotency_mismatch', 'uri_too_long', 'headers_too_big', 'not_implemented', 'http_version', 'media_type', 'ok', 'transport_gone']);
  for (const [code, [http, close, action]] of Object.entries(ERRORS)) {
    if (!overHttpOnly.has(code)) assert.equal(reaction(close, code), action, `${close} ${code}`);
    if (code !== 'ok') assert.equal(reaction(closeOfHttp(http, code), code), action, `${http} ${code}`);
  }
  for (const close of [1000, 1001, 1002, 1005, 1006, 1007, 1009, 1011, 1012, 1013, 3000, 4000, 4400, 4401, 4403, 4404, 4408, 4409, 4413, 4429, 4499]) {
    assert.equal(reaction(close), actionOf(close), `${close}`);
  }
});

test('an HTTP answer without an error code is judged by its status', () => {
  const table = { token: [401], register: [404], stop: [403, 409, 410, 418, 501], once: [400, 413], backoff: [408, 429, 500, 502, 503, 504, 599, 302, 204] };
  for (const [action, statuses] of Object.entries(table)) {
    for (const status of statuses) assert.equal(reaction(closeOfHttp(status)), action, `${status}`);
  }
});

test('a close reason carries a code and perhaps a wait', () => {
  assert.deepEqual(parseReason('rate_limited;retry_after_ms=1500'), { error: 'rate_limited', retryAfterMs: 1500 });
  assert.deepEqual(parseReason('replaced'), { error: 'replaced', retryAfterMs: undefined });
  assert.deepEqual(parseReason('draining;x=1;retry_after_ms=7'), { error: 'draining', retryAfterMs: 7 });
  assert.deepEqual(parseReason(''), { error: undefined, retryAfterMs: undefined });
  assert.deepEqual(parseReason('x;retry_after_ms=-1').retryAfterMs, undefined);
});
