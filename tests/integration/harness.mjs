// The real parleyd for the tests written in JavaScript: started on a free port, stopped by pid.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const HERE = path.dirname(fileURLToPath(import.meta.url));
export const ROOT = path.resolve(HERE, '..', '..');
export const OUT = path.join(HERE, 'out');
export const PARLEYD = process.env.PARLEYD || path.join(ROOT, 'build', 'dev', 'parleyd');
export const SECRET = 'integration-tests-secret-of-more-than-32-bytes';
export const API_KEY = 'integration-tests-api-key';

const SANITIZER = /AddressSanitizer|LeakSanitizer|UndefinedBehaviorSanitizer|runtime error:/;

/* Issued a second ago: the server's clock is that of its last turn, which may have been in the second before. */
export function mint(user, communities, claims = {}) {
  const now = Math.floor(Date.now() / 1000);
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const text = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub: String(user), iat: now - 1, exp: now + 3600, communities, ...claims })}`;
  return `${text}.${createHmac('sha256', SECRET).update(text).digest('base64url')}`;
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Calls probe until it is true and returns what it returned. */
export async function until(probe, what, timeoutMs = 5000) {
  const end = Date.now() + timeoutMs;
  for (;;) {
    const value = await probe();
    if (value) return value;
    if (Date.now() > end) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await sleep(25);
  }
}

export class Server {
  /** options: { 'queue.ttl': '2s' }; args: further arguments, such as --dev. */
  static async start(options = {}, args = []) {
    const server = new Server();
    const all = { 'server.listen': '127.0.0.1:0', 'server.drain_time': '0s', 'auth.jwt_key': SECRET, 'auth.api_key': API_KEY, ...options };
    const sets = Object.entries(all).flatMap(([key, value]) => ['--set', `${key}=${value}`]);
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('PARLEY_')));
    server.process = spawn(PARLEYD, [...args, ...sets], { stdio: ['ignore', 'pipe', 'pipe'], env });
    server.stdout = server.stderr = '';
    server.process.stdout.on('data', (data) => { server.stdout += data; });
    server.process.stderr.on('data', (data) => { server.stderr += data; });
    server.exited = once(server.process, 'exit');
    const ready = await until(() => server.process.exitCode !== null
      || /parleyd ready on (http:\/\/[^\s]+)/.exec(server.stdout), 'parleyd to be ready', 15000);
    assert.notEqual(ready, true, `parleyd left: ${server.stderr}`);
    server.url = ready[1].replace(/\/$/, '');
    server.ws = server.url.replace('http', 'ws') + '/realtime/ws';
    return server;
  }

  async stop() {
    this.process.kill('SIGTERM');
    const timer = setTimeout(() => this.process.kill('SIGKILL'), 15000);
    const [code, signal] = await this.exited;
    clearTimeout(timer);
    assert.doesNotMatch(this.stderr, SANITIZER, this.stderr);
    assert.deepEqual([code, signal], [0, null], this.stderr);
  }

  async api(name, body, headers = {}) {
    const response = await fetch(`${this.url}/realtime/${name}`, {
      method: 'POST',
      headers: { 'X-API-Key': API_KEY, 'Content-Type': 'application/json', ...headers },
      body: JSON.stringify(body),
    });
    const value = await response.json();
    assert.equal(response.status, 200, JSON.stringify(value));
    return value;
  }

  async publish(community, data = {}, fields = {}) {
    const event = { type: 'new_comment', community_ids: [community], data, ...fields };
    return (await this.api('publish', event)).event_id;
  }
}

export function outDirectory() {
  mkdirSync(OUT, { recursive: true });
  return OUT;
}
