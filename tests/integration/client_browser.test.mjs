// parley-client in headless Chromium against the real server, through what befalls a page: no network, being put
// away and brought back, being frozen, a clock that jumps, a server that dies under fifty pages. The page is another
// origin's, as in most installations. Numbered events are published all the while.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before, describe, test as bareTest } from 'node:test';
import { Application, CHROMIUM, Mortal, connectedIn, launch, logIn, openPage, pageUrl } from './application.mjs';
import { Server, sleep, until } from './harness.mjs';
import { Numbers, assertSeen, eventsOf, gapsOf, statesOf } from './numbered.mjs';

const TRANSPORTS = ['websocket', 'longpoll'];
const skip = !existsSync(CHROMIUM) && 'no Chromium';
const test = (name, run) => bareTest(name, { timeout: 120_000, skip }, run);

let application;
let browser;
let server;
let lastCommunity = 100;

before(async () => {
  if (skip) return;
  application = await Application.start();
  server = await Server.start({ 'auth.allowed_origins': application.url });
  browser = await launch({ ignoreDefaultArgs: ['--disable-back-forward-cache'] });
});

after(async () => {
  await browser?.close();
  await server?.stop();
  await application?.stop();
});

/** One page that listens to a community of its own, while numbers are published to it; returns its log. */
async function withPage(wish, run, { on = server, from: opener = browser, gaps = 0, everyMs = 20 } = {}) {
  const community = ++lastCommunity;
  const numbers = new Numbers(on, community, { everyMs });
  const context = await opener.newContext();
  try {
    const from = await numbers.start();
    const page = await openPage(context, application.url, { community, from, server: on.url, ...wish });
    await connectedIn(page, wish.transports);
    await numbers.more(10);
    await run({ page, context, numbers });
    await numbers.more(10);
    await numbers.stop();
    return await assertSeen(() => logIn(page), numbers, { from, gaps, who: 'the page' });
  } finally {
    await numbers.stop();
    await context.close();
  }
}

const pageEventsOf = (log) => log.filter(([what]) => what === 'page').map(([, name]) => name);

/** Waits until the page has what was last published by now; resolves to how long that took. */
async function caughtUp(page, numbers, timeoutMs = 5000) {
  const started = Date.now();
  const { n } = numbers.last;
  await until(async () => eventsOf(await logIn(page)).at(-1)?.[1] >= n, `number ${n} on the page`, timeoutMs);
  return Date.now() - started;
}

/** Process ids of a browser's renderers. */
async function renderers(of) {
  const session = await of.newBrowserCDPSession();
  const { processInfo } = await session.send('SystemInfo.getProcessInfo');
  await session.detach();
  return processInfo.filter(({ type }) => type === 'renderer').map(({ id }) => id);
}

/** Goes elsewhere and back, by history: the back/forward cache brings the page itself back. */
async function awayAndBack(page, meanwhile) {
  await page.goto('about:blank');
  await meanwhile();
  await page.evaluate(() => { setTimeout(() => history.back(), 0); });
  await until(() => page.evaluate(() => globalThis.parley?.state === 'connected').catch(() => false), 'connected', 10_000);
}

async function throughCuts({ page, numbers }, transport) {
  for (let cut = 0; cut < 3; cut += 1) {
    await page.evaluate(() => parley.cut());
    await numbers.more(5);
    await connectedIn(page, transport);
    await numbers.more(5);
  }
}

async function offline({ page, context, numbers }) {
  await context.setOffline(true);
  assert.equal(await page.evaluate(() => navigator.onLine), false);
  await sleep(3000);
  await context.setOffline(false);
  assert.ok(await caughtUp(page, numbers) < 3000, 'back at once, not after a backoff');
}

/* The whole machine stood still, as far as the page can tell; the server has given up the link meanwhile. */
async function stopped({ page, numbers }, own) {
  const processes = await renderers(own);
  for (const id of processes) process.kill(id, 'SIGSTOP');
  await sleep(5000);
  for (const id of processes) process.kill(id, 'SIGCONT');
  await page.evaluate(() => jump(600_000));
  await caughtUp(page, numbers, 8000);
}

/* Together, for they mostly wait. */
describe('each number once and in order', { concurrency: true }, () => {
  for (const transports of TRANSPORTS) {
    for (const codec of ['json', 'msgpack']) {
      test(`${transports} ${codec}: through cuts`, () => withPage({ transports, codec }, (run) => throughCuts(run, transports)));
    }

    test(`${transports}: offline for three seconds, then online`, async () => {
      const log = await withPage({ transports }, offline);
      assert.deepEqual(pageEventsOf(log), ['offline', 'online']);
    });

    test(`${transports}: put into the back/forward cache and brought back, twice`, async () => {
      const log = await withPage({ transports }, async ({ page, numbers }) => {
        for (let round = 0; round < 2; round += 1) await awayAndBack(page, () => numbers.more(20));
      });
      const round = ['pagehide', 'freeze', 'resume', 'pageshow'];
      assert.deepEqual(pageEventsOf(log), [...round, ...round], 'the very page came back');
    });

    test(`${transports}: stopped dead for five seconds, and the clock has moved on by minutes`, async () => {
      const own = await launch();
      const on = await Server.start({ 'auth.allowed_origins': application.url, 'websocket.ping_interval': '1s' });
      try {
        await withPage({ transports }, (run) => stopped(run, own), { on, from: own });
      } finally {
        await own.close();
        await on.stop();
      }
    });
  }

  for (const [held, gaps] of [[1000, 0], [50, 1]]) {
    test(`away until the queue has ended, while more than 50 events come and ${held} are held: ${gaps} gaps`, async () => {
      const on = await Server.start({ 'auth.allowed_origins': application.url, 'queue.ttl': '1s', 'channel.ring_events': held });
      try {
        const log = await withPage({}, ({ page, numbers }) => awayAndBack(page, async () => {
          numbers.everyMs = 10;
          await Promise.all([sleep(4000), numbers.more(60)]);
          numbers.everyMs = 250;
        }), { on, gaps, everyMs: 250 });
        assert.deepEqual(gapsOf(log).map(([, reason]) => reason), gaps ? ['trimmed'] : []);
      } finally {
        await on.stop();
      }
    });
  }

  test('a clock that is set back by an hour, and forward again', () => withPage({}, async ({ page, numbers }) => {
    for (const ms of [-3_600_000, 3_600_000]) {
      await page.evaluate((by) => jump(by), ms);
      await numbers.more(100);
      await caughtUp(page, numbers);
    }
  }));

  test('a reload with sessionStorage', () => withPage({ storage: 'session' }, async ({ page, numbers }) => {
    for (let round = 0; round < 3; round += 1) {
      await numbers.more(10);
      await page.reload();
      await connectedIn(page);
    }
  }));
});

/** Fifty pages in five browser profiles, one of each over long-poll; those of a profile share a process. */
async function fifty(contexts, wish) {
  const pages = await Promise.all(contexts.map(async (context) => {
    const first = await openPage(context, application.url, { ...wish, transports: 'longpoll' });
    for (let i = 1; i < 10; i += 1) {
      const way = { transports: 'websocket', codec: i % 2 ? 'msgpack' : 'json' };
      await first.evaluate((url) => void open(url), pageUrl(application.url, { ...wish, ...way }));
    }
    return until(() => context.pages().length === 10 && context.pages(), 'ten pages');
  }));
  return pages.flat();
}

test('the server is killed and started again under fifty pages: each is told a gap and sees all after it', async (t) => {
  const community = ++lastCommunity;
  const mortal = await Mortal.start({ 'auth.allowed_origins': application.url });
  const numbers = new Numbers(() => mortal.now, community, { everyMs: 50 });
  const contexts = await Promise.all(Array.from({ length: 5 }, () => browser.newContext()));
  try {
    const from = await numbers.start();
    const pages = await fifty(contexts, { community, from, server: mortal.url });
    await Promise.all(pages.map((page) => connectedIn(page)));
    await mortal.restart(500);
    const backAt = Date.now();
    await until(async () => {
      const logs = await Promise.all(pages.map(logIn));
      return logs.every((log) => gapsOf(log).length && statesOf(log).at(-1).startsWith('connected'));
    }, 'every page told', 15_000);
    t.diagnostic(`fifty pages were back ${Date.now() - backAt} ms after the server`);
    await numbers.more(20);
    await numbers.stop();
    for (const [i, page] of pages.entries()) {
      const log = await assertSeen(() => logIn(page), numbers, { from, gaps: 1, who: `page ${i}` });
      assert.equal(gapsOf(log)[0][1], 'epoch');
    }
  } finally {
    await numbers.stop();
    await Promise.all(contexts.map((context) => context.close()));
    await mortal.now.stop();
  }
});
