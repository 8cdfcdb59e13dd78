import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';

const BUDGET = 8 * 1024;
const source = new URL('../src/', import.meta.url);

/* Without comments and indentation, nothing renamed: what any bundler ships is smaller still. */
test(`the core stays within ${BUDGET} bytes gzipped`, (t) => {
  const code = readdirSync(source)
    .filter((name) => name.endsWith('.js'))
    .map((name) => readFileSync(new URL(name, source), 'utf8'))
    .join('\n')
    .replace(/\/\*[\s\S]*?\*\//g, '')
    .replace(/\s\/\/ .*$/gm, '')
    .replace(/^\s+/gm, '');
  const bytes = gzipSync(code, { level: 9 }).length;
  t.diagnostic(`core: ${bytes} bytes gzipped`);
  assert.ok(bytes <= BUDGET, `${bytes} bytes`);
});

test('the core names no global of the DOM', () => {
  for (const name of readdirSync(source).filter((file) => file.endsWith('.js'))) {
    assert.doesNotMatch(readFileSync(new URL(name, source), 'utf8'), /\b(window|document|navigator|localStorage|location)\./, name);
  }
});
