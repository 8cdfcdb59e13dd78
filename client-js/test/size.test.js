import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { bundle, gzipped, sizes } from './sizes.js';

const BUDGET = 8 * 1024;
const source = new URL('../src/', import.meta.url);

test(`the core stays within ${BUDGET} bytes gzipped`, async (t) => {
  const found = await sizes();
  for (const [entry, bytes] of found) t.diagnostic(`${entry}: ${bytes} bytes gzipped`);
  assert.ok(found.get('.') <= BUDGET, `${found.get('.')} bytes`);
});

test('what is not imported is not shipped', async () => {
  const table = await bundle("export { ERRORS } from './index.js'");
  assert.ok(gzipped(table) < 800, `${gzipped(table)} bytes`);
  assert.doesNotMatch(table, /WebSocket|fetch|class/);
});

test('the core and the other entries import nothing but peers', async () => {
  for (const [entry, allowed] of [['index', /^$/], ['msgpack', /^@msgpack\/msgpack$/]]) {
    const code = await bundle(`export * from './${entry}.js'`);
    for (const [, name] of code.matchAll(/from"([^"]+)"/g)) assert.match(name, allowed, entry);
  }
});

const CORE = readdirSync(source).filter((name) => name.endsWith('.js') && !/^(react|tanstack|shared)/.test(name));

/* page.js is given the page it listens to. */
test('the core names no global of the DOM', () => {
  for (const name of CORE) {
    const code = readFileSync(new URL(name, source), 'utf8').replace(/\/\*[\s\S]*?\*\//g, '');
    assert.doesNotMatch(code, name === 'page.js' ? /\bwindow\b/ : /\b(window|document|localStorage|sessionStorage|location)\b/, name);
    assert.doesNotMatch(code, /(?<!\?\.)\bnavigator\b/, name);
  }
});
