import assert from 'node:assert/strict';
import { test } from 'node:test';
import { changes } from '../src/narrowing.js';

const want = (...topics) => new Map(topics.map((topic) => [topic, 1]));
const sub = (article) => ({ op: 'subscribe', community_id: 42, article_id: article });
const unsub = (article) => ({ op: 'unsubscribe', community_id: 42, article_id: article });

test('the whole community is asked for once, whatever articles are wanted too', () => {
  assert.deepEqual(changes(42, want('', 789), undefined), [sub()]);
  assert.deepEqual(changes(42, want('', 789), new Set([789])), [sub()]);
  assert.deepEqual(changes(42, want('', 789), new Set([''])), []);
});

test('articles are added before others are taken away', () => {
  assert.deepEqual(changes(42, want(1, 2), new Set([2, 3])), [sub(1), unsub(3)]);
  assert.deepEqual(changes(42, want(1), new Set([''])), [sub(1)]);
});

test('from an unknown state nothing is emptied that is wanted', () => {
  assert.deepEqual(changes(42, want(1, 2), undefined), [sub(1), sub(2)]);
});

test('nothing wanted any more means nothing sent any more', () => {
  assert.deepEqual(changes(42, want(), new Set([''])), [unsub()]);
  assert.deepEqual(changes(42, want(), undefined), [unsub()]);
  assert.deepEqual(changes(42, want(), new Set([1])), [unsub(1)]);
  assert.deepEqual(changes(42, want(), new Set()), []);
});

test('what was asked for and granted needs no further change', () => {
  for (const wanted of [want(''), want('', 1), want(1, 2), want()]) assert.deepEqual(changes(42, wanted, new Set(wanted.keys())), []);
});
