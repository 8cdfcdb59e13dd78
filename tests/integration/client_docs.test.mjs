// The examples of docs/client.md, run as they stand there.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test as bareTest } from 'node:test';
import { promisify } from 'node:util';
import { CHROMIUM, CLIENT, launch } from './application.mjs';
import { API_KEY, ROOT, Server, mint, until } from './harness.mjs';

const PARLEY = process.env.PARLEY || path.join(ROOT, 'build', 'dev', 'parley');
const PAGE = readFileSync(path.join(ROOT, 'docs/client.md'), 'utf8');
const HAS_CHROMIUM = existsSync(CHROMIUM);

const test = (name, options, run) => bareTest(name, { timeout: 120_000, ...options }, run);

let server;
let browser;

before(async () => {
  process.env.PARLEY_CLIENT_DIR = CLIENT;
  server = await Server.start({}, ['--dev']);
  if (HAS_CHROMIUM) browser = await launch();
});

after(async () => {
  await browser?.close();
  await server.stop();
});

/** The one block of the page that begins so. */
function block(first) {
  const found = [...PAGE.matchAll(/^```\w*\n(.*?)^```$/gms)].map(([, text]) => text).filter((text) => text.startsWith(first));
  assert.equal(found.length, 1, first);
  return found[0];
}

/** The page's command that publishes; resolves to the event's id. */
async function publish() {
  const [, line] = /^build\/parley (.*)$/m.exec(block('build/parley publish'));
  const args = line.match(/'[^']*'|\S+/g).map((word) => word.replaceAll("'", ''));
  assert.ok(args.includes('KEY'));
  const { stdout } = await promisify(execFile)(PARLEY, [...args.map((word) => (word === 'KEY' ? API_KEY : word)), '--url', server.url]);
  return Number(stdout);
}

/** A page of the server's in which code runs; `said` is what it wrote to its console. */
async function consoleOf(t) {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  const said = [];
  page.on('console', (message) => said.push(message.text()));
  await page.goto(`${server.url}/`);
  const run = (code) => page.evaluate((text) => (0, eval)(`(async () => {${text}})()`), code);
  return { page, said, run };
}

test('five minutes to the first event', { skip: !HAS_CHROMIUM && 'no Chromium' }, async (t) => {
  const { said, run } = await consoleOf(t);
  await run(block('const { Parley } = await import'));
  await until(() => said.some((line) => line.startsWith('connected websocket')), 'connected');
  await publish();
  await until(() => said.some((line) => /^new_comment .*comment/.test(line)), `the event, among ${said}`);
});

test('a plain page, and catching up', { skip: !HAS_CHROMIUM && 'no Chromium' }, async (t) => {
  const { page, run } = await consoleOf(t);
  const given = `
    const { Parley } = await import('/client/index.js');
    const url = location.origin;
    const getToken = () => ${JSON.stringify(mint('ada', [42]))};
    const badge = document.createElement('p');
    const article = 7;
    const fetch = async () => new Response('[{"id":1}]');
    const [show, apply] = [(rows) => { globalThis.rows = rows; }, (type, data) => { globalThis.applied = [type, data]; }];`;
  await run(`${given}
    ${block('const parley = new Parley({ url, getToken, storage')}
    ${block('async function load()')}
    Object.assign(globalThis, { parley, badge });`);
  await page.waitForFunction(() => badge.textContent === 'connected websocket' && rows.length === 1);
  await publish();
  await page.waitForFunction(() => globalThis.applied?.[0] === 'new_comment');
  assert.deepEqual(await page.evaluate(() => applied[1]), { comment: { text: 'hello' } });
  await page.waitForFunction(() => JSON.parse(sessionStorage.getItem(`parley:${location.origin}`)).queueId === parley.queueId);
});

test('Node', {}, async (t) => {
  const code = block("import { WebSocket } from 'ws';").replace("'http://127.0.0.1:8888'", JSON.stringify(server.url));
  const given = `const getToken = () => ${JSON.stringify(mint('ben', [42]))};
    const index = ({ event_id: id }) => (console.log(id), process.exit());
    setTimeout(() => console.log('ready'), 1000);`;
  /* In the package's own folder it can be imported by its name. */
  const child = spawn(process.execPath, ['--input-type=module', '-e', `${given}\n${code}`], { cwd: CLIENT, stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  let said = '';
  child.stdout.on('data', (data) => { said += data; });
  await until(() => said.includes('ready'), 'ready', 10_000);
  const id = await publish();
  await until(() => child.exitCode !== null, 'the event');
  assert.equal(said, `ready\n${id}\n`);
});
