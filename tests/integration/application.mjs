// What stands around Parley in a real installation: an application that serves a page and gives out tokens, and a
// browser that opens it.

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { once } from 'node:events';
import path from 'node:path';
import { chromium } from 'playwright-core';
import { HERE, ROOT, Server, mint, sleep } from './harness.mjs';

export const CHROMIUM = process.env.CHROMIUM || '/usr/bin/chromium';
export const CLIENT = process.env.PARLEY_CLIENT_DIR || path.join(ROOT, 'client-js');

const FOLDERS = {
  '/client/': path.join(CLIENT, 'src'),
  '/msgpack/': path.join(CLIENT, 'node_modules/@msgpack/msgpack/dist.esm'),
  '/': path.join(HERE, 'page'),
};
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript' };

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];

/** Serves page/ and the client's modules; POST /token gives anybody a token for a community. */
export class Application {
  static async start() {
    const application = new Application();
    application.http = createServer((request, response) => application.#answer(request, response));
    application.http.listen(0, '127.0.0.1');
    await once(application.http, 'listening');
    application.port = application.http.address().port;
    application.url = `http://127.0.0.1:${application.port}`;
    return application;
  }

  async stop() {
    this.http.closeAllConnections();
    this.http.close();
    await once(this.http, 'close');
  }

  async #answer(request, response) {
    const { pathname, searchParams } = new URL(request.url, this.url);
    if (pathname === '/token') {
      const community = Number(searchParams.get('community'));
      return response.end(mint(`of ${community}`, [community]));
    }
    const folder = Object.keys(FOLDERS).find((prefix) => pathname.startsWith(prefix));
    const file = path.join(FOLDERS[folder], pathname.slice(folder.length) || 'index.html');
    try {
      const body = await readFile(file);
      const type = TYPES[path.extname(file)] ?? 'application/octet-stream';
      response.writeHead(200, { 'Content-Type': type, 'Cache-Control': 'max-age=60' }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  }
}

/** A server that can be killed, and started again on its port. */
export class Mortal {
  /** `ready(server)`: what more is waited for, each time. */
  static async start(options = {}, ready = () => {}) {
    const mortal = new Mortal();
    mortal.ready = ready;
    mortal.options = options;
    await mortal.#begin();
    mortal.url = mortal.now.url;
    mortal.options = { ...options, 'server.listen': new URL(mortal.url).host };
    return mortal;
  }

  async restart(awayMs = 0) {
    this.now.process.kill('SIGKILL');
    await this.now.exited;
    await sleep(awayMs);
    await this.#begin();
  }

  async #begin() {
    this.now = await Server.start(this.options);
    await this.ready(this.now);
  }
}

/** `ignoreDefaultArgs`: of those that Playwright adds, such as `--disable-back-forward-cache`. */
export function launch({ args = [], ignoreDefaultArgs } = {}) {
  return chromium.launch({ executablePath: CHROMIUM, args: [...FLAGS, ...args], ignoreDefaultArgs });
}

/** Opens the page at `origin` with what page/page.js reads from its URL. */
export async function openPage(context, origin, wish) {
  const page = await context.newPage();
  await page.goto(pageUrl(origin, wish));
  return page;
}

export function pageUrl(origin, wish) {
  const given = Object.entries(wish).filter(([, value]) => value !== undefined);
  return `${origin}/?${new URLSearchParams(given)}`;
}

export const logIn = (page) => page.evaluate(() => globalThis.log ?? []);
export const connectedIn = (page, transport) => page.waitForFunction(
  (name) => globalThis.parley?.state === 'connected' && (!name || parley.transport === name), transport, { timeout: 15_000, polling: 50 });
