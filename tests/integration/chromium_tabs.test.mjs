// Ten tabs of one browser on one connection (parley-client/shared), in headless Chromium: whatever becomes of the tab
// that leads, each tab sees each number once and in order, and another leads within two seconds.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, afterEach, before, test as bareTest } from 'node:test';
import { chromium } from 'playwright-core';
import { API_KEY, Server, mint, sleep, until } from './harness.mjs';
import { Numbers, assertSeen } from './numbered.mjs';

const CHROMIUM = process.env.CHROMIUM || '/usr/bin/chromium';
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync', '--renderer-process-limit=40'];
const TABS = 10;
const WITHIN_MS = 2000;

let server;
let browser;
let community = 700;
let window;
const running = [];

const test = (name, run) => bareTest(name, { timeout: 120_000, skip: !existsSync(CHROMIUM) && 'no Chromium' }, run);

before(async () => {
  if (!existsSync(CHROMIUM)) return;
  server = await Server.start({}, ['--dev']);
  browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS, ignoreDefaultArgs: ['--disable-back-forward-cache'] });
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

afterEach(async () => {
  await Promise.all(running.splice(0).map((numbers) => numbers.stop()));
  await window?.context.close();
  window = undefined;
  community += 1;
});

/** What runs in each tab: numbered.mjs says what is in a log. Reads nothing but its arguments. */
async function startTab({ community: number, token, transports }) {
  const kept = JSON.parse(sessionStorage.getItem('log'));
  globalThis.log = kept ?? [];
  const { SharedParley } = await import('/client/shared.js');
  const parley = new SharedParley({ url: location.origin, name: `tabs of ${number}`, getToken: () => token, transports, storage: sessionStorage });
  globalThis.parley = parley;
  addEventListener('pagehide', () => sessionStorage.setItem('log', JSON.stringify(log)));
  for (const name of ['freeze', 'resume']) document.addEventListener(name, () => log.push(['page', name]));
  parley.on('event', ({ event_id: id, data }) => log.push(['event', data.n, id, performance.timeOrigin + performance.now()]));
  parley.on('gap', ({ reason, lastEventId }) => log.push(['gap', reason, lastEventId]));
  parley.on('state', ({ state, transport, leader }) => log.push(['state', `${state}${leader ? ' leading' : ''}`, transport, performance.timeOrigin + performance.now()]));
  parley.on('error', (error) => log.push(['error', error.code, error.message]));
  parley.connect();
}

/** Numbers that are stopped when the test ends, however it does. */
function numbered(options) {
  const numbers = new Numbers(server, community, options);
  running.push(numbers);
  return numbers;
}

/** How many queues the user of this test has. */
async function queues() {
  const user = new URLSearchParams({ user_id: `of ${community}` });
  const response = await fetch(`${server.url}/realtime/status?${user}`, { headers: { 'X-API-Key': API_KEY } });
  return (await response.json()).queues;
}

/** Tabs that share their storage, as those of one browser window do. */
class Window {
  tabs = [];

  static async open(count, transports) {
    window = new Window();
    window.context = await browser.newContext();
    window.context.setDefaultTimeout(10_000);
    const token = mint(`of ${community}`, [community], { scope: 'publish' });
    await window.context.addInitScript(startTab, { community, token, transports });
    for (let i = 0; i < count; i += 1) await window.add();
    return window;
  }

  async add() {
    const page = await this.context.newPage();
    const tab = new Tab(page, this.tabs.length + 1);
    await page.goto(`${server.url}/client/index.js`);
    await tab.connected();
    this.tabs.push(tab);
    return tab;
  }

  async leader() {
    for (const tab of this.tabs) if (await tab.leads()) return tab;
    return undefined;
  }

  /** Takes the tab out of those that are asked. */
  without(tab) {
    this.tabs = this.tabs.filter((other) => other !== tab);
    return tab;
  }

  async assertSeen(numbers, from) {
    for (const tab of this.tabs) await assertSeen(() => tab.read(), numbers, { from: tab.from ?? from, who: tab.name });
  }
}

class Tab {
  constructor(page, number) {
    this.page = page;
    this.name = `tab ${number}`;
  }

  /** Connected, and at a position. */
  async connected() {
    await this.page.waitForFunction(() => globalThis.parley?.state === 'connected' && parley.lastEventId !== undefined);
    this.from = await this.page.evaluate(() => parley.lastEventId);
  }

  leads() {
    return this.page.evaluate(() => globalThis.parley?.leader === true && parley.state === 'connected');
  }

  read() {
    return this.page.evaluate(() => log);
  }

  cdp() {
    return this.page.context().newCDPSession(this.page);
  }
}

/** Runs `end` on the leader while numbers are published; resolves to how long the others waited for what came next. */
async function withoutLeader(t, { transports, ready, end, back }) {
  await Window.open(TABS, transports);
  const numbers = numbered({ everyMs: 20 });
  await numbers.start();
  try {
    await numbers.more(20);
    const leader = window.without(await window.leader());
    await ready?.(leader);
    const endedAt = Date.now();
    await end(leader);
    const next = await until(() => window.leader(), 'another to lead', 5000);
    const waited = await leadingAfter(next, endedAt);
    t.diagnostic(`${next.name} led ${Math.round(waited)} ms after`);
    assert.ok(waited < WITHIN_MS, `another led after ${waited} ms`);
    await numbers.more(30);
    if (back) {
      await back(leader);
      window.tabs.push(leader);
      await numbers.more(30);
    }
  } finally {
    await numbers.stop();
  }
  await window.assertSeen(numbers);
  assert.equal((await window.tabs.reduce(async (all, tab) => [...await all, await tab.leads()], [])).filter(Boolean).length, 1, 'leaders');
  for (const tab of window.tabs) assert.deepEqual((await tab.read()).filter(([what]) => what === 'error'), [], tab.name);
}

/** The renderer that is busy when the page is. */
async function processOf(tab) {
  const session = await browser.newBrowserCDPSession();
  const times = async () => {
    const { processInfo } = await session.send('SystemInfo.getProcessInfo');
    return new Map(processInfo.filter(({ type }) => type === 'renderer').map(({ id, cpuTime }) => [id, cpuTime]));
  };
  const before = await times();
  await tab.page.evaluate(() => {
    const end = Date.now() + 300;
    while (Date.now() < end);
  });
  const after = await times();
  await session.detach();
  const used = (pid) => after.get(pid) - before.get(pid);
  return [...after.keys()].filter((pid) => before.has(pid)).sort((a, b) => used(b) - used(a))[0];
}

async function leadingAfter(tab, ms) {
  const log = await tab.read();
  return log.find(([what, state, , at]) => what === 'state' && state === 'connected leading' && at > ms)[3] - ms;
}

for (const transport of ['longpoll', 'websocket']) {
  test(`${transport}: ten tabs, one connection, each number once and in order`, async () => {
    await Window.open(TABS, [transport]);
    const numbers = numbered({ everyMs: 10 });
    const from = await numbers.start();
    await numbers.more(100);
    await numbers.stop();
    await window.assertSeen(numbers, from);
    assert.equal(await queues(), 1);
    assert.ok(await window.tabs[0].leads());
  });

  test(`${transport}: the leader's tab is closed`, (t) =>
    withoutLeader(t, { transports: [transport], end: (tab) => tab.page.close() }));

  test(`${transport}: the leader's tab crashes`, (t) =>
    withoutLeader(t, { transports: [transport], end: async (tab) => void (await tab.cdp()).send('Page.crash').catch(() => {}) }));

  test(`${transport}: the leader's page does not come to anything for seconds, then goes on`, (t) =>
    withoutLeader(t, {
      transports: [transport],
      end: (tab) => {
        tab.busy = tab.page.evaluate(() => {
          const end = Date.now() + 4000;
          while (Date.now() < end);
        });
      },
      back: (tab) => tab.busy,
    }));

  test(`${transport}: the leader's process is stopped, and goes on later`, (t) =>
    withoutLeader(t, {
      transports: [transport],
      ready: async (tab) => { tab.pid = await processOf(tab); },
      end: (tab) => process.kill(tab.pid, 'SIGSTOP'),
      back: (tab) => process.kill(tab.pid, 'SIGCONT'),
    }));

  test(`${transport}: the leader's page is reloaded, and then another's`, async () => {
    await Window.open(4, [transport]);
    const numbers = numbered({ everyMs: 20 });
    await numbers.start();
    for (const leads of [true, false]) {
      await numbers.more(10);
      const leader = await until(() => window.leader(), 'a leader');
      const tab = leads ? leader : window.tabs.find((other) => other !== leader);
      await tab.page.reload();
      await tab.page.waitForFunction(() => globalThis.parley?.state === 'connected');
    }
    await numbers.more(20);
    await numbers.stop();
    await window.assertSeen(numbers);
  });
}

/** The leader goes elsewhere and comes back by history; resolves to why the browser did not keep it, if it did not. */
async function leaderAwayAndBack(numbers) {
  const leader = window.without(await until(() => window.leader(), 'a leader'));
  await leader.page.evaluate(() => { globalThis.kept = true; });
  await leader.page.goto('about:blank');
  await until(() => window.leader(), 'another to lead', WITHIN_MS);
  await numbers.more(20);
  await leader.page.evaluate(() => setTimeout(() => history.back())); // page.goBack() waits for a load that does not come
  await leader.page.waitForFunction(() => globalThis.parley?.state === 'connected');
  window.tabs.push(leader);
  return leader.page.evaluate(() => !globalThis.kept && JSON.stringify(performance.getEntriesByType('navigation')[0].notRestoredReasons));
}

/* Chromium keeps no page that it still finds holding a lock which others want, and may find so a moment after the lock was
 * let go of. Such a page is loaded anew: then it has missed nothing either. */
test('the leader goes into the back/forward cache and comes back', async (t) => {
  await Window.open(3, ['longpoll']);
  const numbers = numbered({ everyMs: 20 });
  await numbers.start();
  await numbers.more(10);
  for (let tries = 1; ; tries += 1) {
    const refused = await leaderAwayAndBack(numbers);
    if (!refused) break;
    t.diagnostic(refused);
    assert.match(refused, /weblocks-contention/);
    assert.ok(tries < 8, 'kept at last');
  }
  await numbers.more(10);
  await numbers.stop();
  await window.assertSeen(numbers);
});

test('a lone tab that is reloaded has missed nothing', async () => {
  await Window.open(1, ['websocket']);
  const numbers = numbered({ everyMs: 20 });
  await numbers.start();
  await numbers.more(10);
  await window.tabs[0].page.goto('about:blank');
  await numbers.more(20);
  await window.tabs[0].page.goto(`${server.url}/client/index.js`);
  await numbers.more(10);
  await numbers.stop();
  await window.assertSeen(numbers);
});

test('what one tab publishes over long-poll appears in the others, among what else there is', async () => {
  await Window.open(3, ['longpoll']);
  const seen = () => Promise.all(window.tabs.map(async (tab) => (await tab.read()).filter(([what]) => what === 'event').map(([, n]) => n)));
  await window.tabs[1].page.evaluate((number) => parley.publish({ type: 'new_comment', data: { community_id: number, n: 'mine' } }), community);
  await until(async () => (await seen())[2].length === 1, 'it to appear in silence');
  await server.publish(community, { n: 'theirs' });
  await until(async () => (await seen()).every((numbers) => numbers.at(-1) === 'theirs'), 'the next to appear');
  assert.deepEqual(await seen(), [['mine', 'theirs'], ['theirs'], ['mine', 'theirs']]);
});

test('closing the tabs one by one ends the queue with the last', async () => {
  await Window.open(3, ['longpoll']);
  for (const tab of window.tabs) {
    assert.equal(await queues(), 1);
    await tab.page.evaluate(() => parley.close());
    await sleep(200);
  }
  assert.equal(await queues(), 0);
});
