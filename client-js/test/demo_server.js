/* The demo page on the fake server, for looking at it without parleyd:  node test/demo_server.js [port] */
import { readFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { FakeServer } from './fake_server.js';

const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };
const POLICY = "default-src 'self'; connect-src 'self' ws:";

async function page({ url, body, response, answer }) {
  if (url.pathname === '/demo/token') return answer(200, { token: 'demo', user_id: JSON.parse(body).user_id });
  const path = url.pathname === '/' ? '/demo/index.html' : url.pathname.replace(/^\/client\//, '/src/');
  try {
    const file = await readFile(new URL(`..${path}`, import.meta.url));
    response.writeHead(200, { 'Content-Type': TYPES[extname(path)], 'Content-Security-Policy': POLICY });
    response.end(file);
  } catch {
    answer(404, { code: 'not_found', message: 'no such path' });
  }
}

const server = await FakeServer.start({ port: Number(process.argv[2] ?? 0), fallback: page });
console.log(server.url);

const LINES = ['Good morning, all.', 'Has anybody read the second chapter?\nI could not put it down.', 'Yes! The part about the harbour is the best of it.'];
const NAMES = ['Grace', 'Linus', 'Barbara'];
process.stdin.on('data', () => LINES.forEach((text, n) => server.publish({ comment: { id: n, author: NAMES[n], text } })));
