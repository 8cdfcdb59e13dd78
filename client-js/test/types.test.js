/* The types are part of the contract: what must compile does, and what must not is refused for the right reason. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('./types/', import.meta.url));
const tsc = fileURLToPath(new URL('../node_modules/typescript/bin/tsc', import.meta.url));

function compile(...files) {
  const options = JSON.parse(readFileSync(`${folder}tsconfig.json`, 'utf8')).compilerOptions;
  const flags = Object.entries(options).flatMap(([name, value]) => [`--${name}`, Array.isArray(value) ? value.join() : `${value}`]);
  const { stdout } = spawnSync(process.execPath, [tsc, '--ignoreConfig', '--pretty', 'false', ...flags, ...files], { cwd: folder, encoding: 'utf8' });
  return stdout;
}

test('what an application writes compiles under --strict', () => {
  assert.equal(compile('good.ts'), '');
});

test('mistakes are refused, each for its own reason', () => {
  const source = readFileSync(`${folder}bad.ts`, 'utf8').split('\n');
  const expected = source.flatMap((line, n) => (line.startsWith('// @expect ') ? [`${n + 2} ${line.slice(11)}`] : []));
  const found = [...compile('bad.ts').matchAll(/^bad\.ts\((\d+),\d+\): error (TS\d+)/gm)].map(([, line, code]) => `${line} ${code}`);
  assert.deepEqual(found, expected);
});
