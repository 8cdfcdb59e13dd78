import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createBackoff } from '../src/backoff.js';

test('the ceiling doubles with each attempt up to the cap', () => {
  const backoff = createBackoff(100, 450, () => 1);
  assert.deepEqual([1, 2, 3, 4, 5].map(() => backoff.next()), [100, 200, 400, 450, 450]);
});

test('the jitter is full: a delay may be nothing at all', () => {
  const backoff = createBackoff(100, 450, () => 0);
  assert.equal(backoff.next(), 0);
  assert.equal(backoff.next(), 0);
});

test('a reset starts again at the base', () => {
  const backoff = createBackoff(100, 450, () => 0.5);
  backoff.next();
  backoff.next();
  backoff.reset();
  assert.equal(backoff.next(), 50);
});
