// Headless Chromium on the demo page: two people, one over WebSocket and one over long-poll, and what the two
// buttons do to the link; then what the page makes of events. Screenshots are left in out/.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { after, afterEach, before, test as bareTest } from 'node:test';
import { chromium } from 'playwright-core';
import { Server, outDirectory } from './harness.mjs';

const CHROMIUM = process.env.CHROMIUM || '/usr/bin/chromium';
const DESKTOP = { width: 1100, height: 800 };
const PHONE = { width: 390, height: 844 };
const SMALL = { width: 360, height: 560 };

let server;
let browser;
let community = 42;
let people = [];

const test = (name, run) => bareTest(name, { timeout: 120_000, skip: !existsSync(CHROMIUM) && 'no Chromium' }, run);

before(async () => {
  if (!existsSync(CHROMIUM)) return;
  server = await Server.start({ 'server.node': 'left' }, ['--dev']);
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] });
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

afterEach(async () => {
  const errors = people.flatMap((person) => person.errors);
  await Promise.all(people.map((person) => person.context.close()));
  people = [];
  community += 1;
  assert.deepEqual(errors, [], 'errors on the page');
});

/** One browser with its own storage, on the demo page as somebody. */
class Person {
  static async join(name, { transport, viewport = DESKTOP } = {}) {
    const person = new Person();
    person.name = name;
    person.context = await browser.newContext({ viewport });
    person.context.setDefaultTimeout(10_000);
    person.page = await person.context.newPage();
    person.errors = [];
    person.page.on('pageerror', (error) => person.errors.push(String(error)));
    person.page.on('console', (message) => {
      if (message.type() === 'error' && !/WebSocket|net::|status of (4|5)/.test(message.text())) {
        person.errors.push(message.text());
      }
    });
    people.push(person);
    const query = new URLSearchParams({ name, community, ...(transport && { transport }) });
    await person.page.goto(`${server.url}/?${query}`);
    await person.connected(transport ?? 'websocket');
    return person;
  }

  /** Waits until the indicator says it is live over that transport. */
  connected(transport) {
    return this.page.waitForSelector(`#status[data-state="connected"][data-transport="${transport}"]`);
  }

  async post(text) {
    await this.page.fill('#text', text);
    await this.page.click('#send');
    await this.sees(text);
  }

  sees(text) {
    return this.page.waitForSelector(`#comments .comment:has-text("${text}")`);
  }

  discussion(title) {
    return this.page.locator('.discussion', { has: this.page.locator('.title', { hasText: title }) });
  }

  async start(title, text) {
    await this.page.click('#start');
    await this.page.fill('#start-title', title);
    await this.page.fill('#start-text', text);
    await this.page.click('#start-form [type=submit]');
    await this.discussion(title).waitFor();
  }

  async reply(title, text) {
    await this.discussion(title).locator('.composer textarea').fill(text);
    await this.discussion(title).locator('.composer [type=submit]').click();
    await this.discussion(title).locator('.comment', { hasText: text }).waitFor();
  }

  texts() {
    return this.page.$$eval('#comments .comment .text', (items) => items.map((item) => item.textContent));
  }

  async screenshot(name) {
    await this.page.screenshot({ path: path.join(outDirectory(), `${name}.png`) });
  }
}

test('one joins by the form, and the indicator names the transport', async () => {
  const context = await browser.newContext({ viewport: PHONE });
  const page = await context.newPage();
  people.push({ context, errors: [] });
  await page.goto(server.url);
  await page.waitForSelector('#join-form');
  await page.screenshot({ path: path.join(outDirectory(), 'demo-join-phone.png') });
  await page.fill('#name', 'Grace');
  await page.fill('#community', String(community));
  await page.click('#enter');
  await page.waitForSelector('#status[data-state="connected"]');
  assert.match(await page.textContent('#status'), /WebSocket/);
  assert.match(await page.textContent('#room-title'), new RegExp(String(community)));
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, `the page is ${overflow} px wider than a phone`);
});

test('a comment crosses both ways between WebSocket and long-poll', async () => {
  const ada = await Person.join('Ada');
  const ben = await Person.join('Ben', { transport: 'longpoll', viewport: PHONE });
  await ada.post('Hello from a WebSocket');
  const item = await ben.sees('Hello from a WebSocket');
  assert.match(await item.getAttribute('class'), /fresh/, 'highlighted at first');
  assert.match(await item.textContent(), /Ada/);
  await ben.post('Hello from a long-poll, Grüße 😀 <b>not bold</b>');
  await ada.sees('Hello from a long-poll');
  for (const person of [ada, ben]) {
    assert.deepEqual(await person.texts(),
      ['Hello from a WebSocket', 'Hello from a long-poll, Grüße 😀 <b>not bold</b>']);
    await person.page.waitForFunction(() => / ms$/.test(document.getElementById('fact-latency').textContent));
    assert.equal(await person.page.textContent('#fact-node'), 'left', 'the node is named');
  }
  await ada.screenshot('demo-websocket');
  await ben.screenshot('demo-longpoll-phone');
  await ben.page.waitForSelector('#comments .comment:not(.fresh)');
});

test('what a backend publishes arrives on both', async () => {
  const ada = await Person.join('Ada');
  const ben = await Person.join('Ben', { transport: 'longpoll' });
  const comment = { author: 'Backend', text: 'From Django' };
  await server.publish(community, { article_id: 789, community_id: community, comment });
  await ada.sees('From Django');
  await ben.sees('From Django');
});

test('after a cut the page reconnects and has missed nothing', async () => {
  const ada = await Person.join('Ada');
  const ben = await Person.join('Ben', { transport: 'longpoll' });
  const expected = [];
  for (const person of [ada, ben]) {
    for (let round = 0; round < 2; round += 1) {
      const text = `Comment ${expected.length} during a cut`;
      expected.push(text);
      await person.page.click('#cut');
      await (person === ada ? ben : ada).post(text);
      await person.sees(text);
      await person.connected(person === ada ? 'websocket' : 'longpoll');
    }
  }
  for (const person of [ada, ben]) assert.deepEqual(await person.texts(), expected);
});

test('forbidding WebSocket falls back to long-poll on the same queue, allowing it comes back', async () => {
  const ada = await Person.join('Ada');
  const ben = await Person.join('Ben');
  await ada.page.click('#forbid');
  assert.equal(await ada.page.getAttribute('#forbid', 'aria-pressed'), 'true');
  await ben.post('While Ada changes over');
  await ada.connected('longpoll');
  await ada.sees('While Ada changes over');
  await ada.post('Now over long-poll');
  await ben.sees('Now over long-poll');
  await ada.screenshot('demo-forbidden');
  await ada.page.click('#forbid');
  await ada.connected('websocket');
  await ben.post('And back again');
  await ada.sees('And back again');
  const expected = ['While Ada changes over', 'Now over long-poll', 'And back again'];
  for (const person of [ada, ben]) assert.deepEqual(await person.texts(), expected);
});

test('a reload shows what came meanwhile', async () => {
  const ada = await Person.join('Ada');
  const ben = await Person.join('Ben', { transport: 'longpoll' });
  await ben.post('Before the reload');
  await ada.sees('Before the reload');
  await ada.page.goto('about:blank');
  await ben.post('During the reload');
  await ada.page.goBack();
  await ada.connected('websocket');
  await ada.sees('Before the reload');
  await ada.sees('During the reload');
  assert.deepEqual(await ada.texts(), ['Before the reload', 'During the reload']);
});

test('a user of another community sees nothing of it', async () => {
  const [ada, ben] = [await Person.join('Ada'), await Person.join('Ben')];
  community += 1;
  const eve = await Person.join('Eve');
  await eve.post('Elsewhere');
  await ben.post('Here');
  await ada.sees('Here');
  assert.deepEqual(await ada.texts(), ['Here']);
  assert.deepEqual(await eve.texts(), ['Elsewhere']);
});

/* --------------------------------------------------------------------------------- what the page makes of it */

test('discussions and comments are added, edited and deleted everywhere', async () => {
  const [ada, ben] = [await Person.join('Ada'), await Person.join('Ben', { transport: 'longpoll', viewport: PHONE })];
  await ada.page.locator('.floor .empty').waitFor();
  await ada.start('Safety', 'Who asked those with bad eyes?');
  await ben.discussion('Safety').locator('.text', { hasText: 'Who asked' }).waitFor();
  await ben.reply('Safety', 'My aunt');
  const reply = ada.discussion('Safety').locator('.comment', { hasText: 'My aunt' });
  await reply.waitFor();
  assert.ok(await reply.locator('.actions').isHidden(), 'what others wrote is not changed');

  const mine = ben.discussion('Safety').locator('.comment');
  await mine.locator('.edit').click();
  await mine.locator('.editor textarea').fill('My aunt, 84');
  await mine.locator('.editor [type=submit]').click();
  await reply.locator('.text', { hasText: 'My aunt, 84' }).waitFor();
  await reply.locator('.edited').waitFor();

  const actions = ada.discussion('Safety').locator('> .actions');
  await actions.locator('.edit').click();
  await ada.discussion('Safety').locator('.editor textarea').fill('Nobody was asked.');
  await ada.discussion('Safety').locator('.editor [type=submit]').click();
  await ben.discussion('Safety').locator('> .text', { hasText: 'Nobody was asked.' }).waitFor();
  await ada.screenshot('demo-discussions');
  await ben.screenshot('demo-discussions-phone');

  await mine.locator('.delete').click();
  assert.equal(await reply.count(), 1, 'one click deletes nothing');
  await mine.locator('.delete').click();
  await reply.waitFor({ state: 'detached' });
  await ben.reply('Safety', 'Another');
  for (let click = 0; click < 2; click += 1) await actions.locator('.delete').click();
  await ben.discussion('Safety').waitFor({ state: 'detached' });
  await ben.page.reload();
  await ben.connected('longpoll');
  assert.deepEqual(await ben.texts(), []);
  assert.equal(await ben.discussion('Safety').count(), 0);
});

test('what arrives off screen is told by a toast that leads there', async () => {
  const [ada, ben] = [await Person.join('Ada'), await Person.join('Ben', { viewport: SMALL })];
  await ada.post('On screen for Ada');
  await ben.page.click('.toast .go');
  const comment = ben.page.locator('.comment', { hasText: 'On screen for Ada' });
  await ben.page.waitForFunction((element) => element.getBoundingClientRect().bottom < innerHeight, await comment.elementHandle());
  await ben.page.locator('.toast').waitFor({ state: 'detached' });
  await ben.post('For Ada, who looks at it');
  await ada.sees('For Ada, who looks at it');
  assert.equal(await ada.page.locator('.toast').count(), 0, 'no toast for what is seen');
});

test('a desktop notification is asked for by a click and comes only when hidden', async () => {
  const [ada, ben] = [await Person.join('Ada'), await Person.join('Ben')];
  await ben.context.grantPermissions(['notifications'], { origin: server.url });
  await ben.page.evaluate(() => {
    const real = Notification;
    globalThis.told = [];
    globalThis.Notification = class {
      static get permission() { return real.permission; }
      static requestPermission() { return real.requestPermission(); }
      constructor(title, { body }) { told.push(`${title}: ${body}`); }
      close() {}
    };
  });
  const hide = (yes) => ben.page.evaluate((hidden) => Object.defineProperty(document, 'hidden', { value: hidden, configurable: true }), yes);
  await hide(true);
  await ada.post('Before it was asked for');
  await ben.sees('Before it was asked for');
  await ben.page.click('#desktop');
  assert.equal(await ben.page.getAttribute('#desktop', 'aria-checked'), 'true');
  await ada.post('While hidden');
  await ben.sees('While hidden');
  await hide(false);
  await ada.post('While shown');
  await ben.sees('While shown');
  assert.deepEqual(await ben.page.evaluate(() => told), ['Ada in Open floor: While hidden']);
  assert.equal(await ben.page.getAttribute('#sound', 'aria-checked'), 'false', 'sound is off until somebody wants it');
});

test('a gap is said, and the refetch it offers leaves the page as it was', async () => {
  const ada = await Person.join('Ada');
  await ada.post('Kept by this browser');
  await ada.page.evaluate((key) => localStorage.setItem(key, '{"lastEventId":1}'), `parley-demo/${community}/position`);
  await ada.page.reload();
  await ada.page.locator('#gap').waitFor();
  await ada.page.click('#refetch');
  await ada.page.locator('#gap').waitFor({ state: 'hidden' });
  assert.deepEqual(await ada.texts(), ['Kept by this browser']);
  const ben = await Person.join('Ben');
  await ben.post('And it goes on');
  await ada.sees('And it goes on');
});

test('of several tabs one leads, all see everything once, and the next takes over', async () => {
  const [ada, ben] = [await Person.join('Ada'), await Person.join('Ben')];
  const second = await ada.context.newPage();
  await second.goto(ada.page.url());
  await second.waitForSelector('#status[data-state="connected"]');
  assert.match(await ada.page.textContent('#fact-tab'), /leads/);
  assert.match(await second.textContent('#fact-tab'), /listens/);
  await ada.post('From the first tab');
  await ben.post('From Ben');
  const texts = () => second.$$eval('#comments .comment .text', (items) => items.map((item) => item.textContent));
  await second.waitForSelector('.comment:has-text("From Ben")');
  assert.deepEqual(await texts(), ['From the first tab', 'From Ben']);
  await ada.page.close();
  await second.locator('#fact-tab', { hasText: 'leads' }).waitFor({ timeout: 2000 });
  await ben.post('To the tab that is left');
  await second.waitForSelector('.comment:has-text("To the tab that is left")');
  assert.deepEqual(await texts(), ['From the first tab', 'From Ben', 'To the tab that is left']);
});
