/* docs/client.md names what there is, and nothing else. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { DEFAULT_TIMING } from '../src/timing.js';
import { DEFAULT_PULSE } from '../src/shared_election.js';

const read = (path) => readFileSync(new URL(path, import.meta.url), 'utf8');
const page = read('../../docs/client.md');

/* The names in backquotes in the first column of the tables of a section. */
function rowsOf(section) {
  const [, text] = page.split(`\n${section}`);
  const cells = text.split('\n## ')[0].matchAll(/^\| (.*?) \|(.*?)\|/gm);
  return [...cells].flatMap(([, names]) => [...names.matchAll(/`(\w+)/g)].map(([, name]) => name));
}

/* The members of an interface or class. */
function membersOf(file, name) {
  const [, body] = new RegExp(`(?:interface|class) ${name}\\b[^{]*\\{\\n([\\s\\S]*?)\\n\\}`).exec(read(`../src/${file}.d.ts`));
  return [...body.matchAll(/^ {2}(?:readonly )?(\w+)\??[(:<]/gm)].map(([, member]) => member);
}

const sorted = (names) => [...new Set(names)].sort();

test('every option, and its default time', () => {
  const given = ['getToken', 'register', 'queue', 'signal'];
  const timing = rowsOf('**timing**');
  assert.deepEqual(sorted(rowsOf('## Options')), sorted([...membersOf('index', 'CommonOptions'), ...given, ...timing]));
  assert.deepEqual(sorted(timing), sorted(Object.keys(DEFAULT_TIMING)));
  assert.deepEqual(sorted(membersOf('index', 'Timing')), sorted(Object.keys(DEFAULT_TIMING)));
  for (const [name, ms] of Object.entries(DEFAULT_TIMING)) {
    const row = page.split('\n').find((line) => line.startsWith('|') && line.includes(`\`${name}\``) && !line.startsWith('| `timing`'));
    assert.ok(row.replaceAll(/(\d) (\d)/g, '$1$2').includes(String(ms)), `${name}: ${ms}`);
  }
});

test("every option of shared tabs, and its default time", () => {
  const tabs = page.split('\n## Tabs')[1].split('\n## ')[0];
  for (const name of membersOf('shared', 'OfTabs')) assert.ok(rowsOf('## Tabs').includes(name), name);
  for (const [name, ms] of Object.entries(DEFAULT_PULSE)) assert.ok(tabs.includes(`\`${name}\` ${ms} `), name);
});

test('every method and property', () => {
  const named = [...page.matchAll(/`(\w+)/g)].map(([, name]) => name);
  for (const name of [...membersOf('index', 'Parley'), ...membersOf('shared', 'SharedParley')]) {
    assert.ok(name === 'constructor' || named.includes(name), name);
  }
});

test("every error code of the client's own", () => {
  const [, list] = /One of `ERRORS`, or of the client's own: ([\s\S]*?)\.\n/.exec(read('../src/index.d.ts'));
  for (const [, code] of list.matchAll(/`(\w+)/g)) assert.ok(page.includes(`\`${code}`), code);
});
