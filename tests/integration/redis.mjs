// A redis-server of a test's own, on a free port, that can be made to stand still; and nodes of parleyd on it.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Mortal } from './application.mjs';
import { until } from './harness.mjs';
import { answers, freePort } from './proxies.mjs';

const BINARY = '/usr/bin/redis-server';
export const installed = existsSync(BINARY);

export class Redis {
  static async start() {
    const redis = new Redis();
    redis.dir = await mkdtemp(path.join(tmpdir(), 'parley-redis-'));
    const port = await freePort();
    const args = ['--port', port, '--bind', '127.0.0.1', '--dir', redis.dir, '--save', '', '--appendonly', 'no'];
    redis.process = spawn(BINARY, args, { stdio: 'ignore' });
    redis.exited = once(redis.process, 'exit');
    process.once('exit', () => redis.process.kill('SIGKILL'));
    await until(() => answers(port), 'redis-server');
    redis.url = `redis://127.0.0.1:${port}`;
    return redis;
  }

  /* From the nodes' side: there, and without an answer. */
  pause() {
    this.process.kill('SIGSTOP');
  }

  resume() {
    this.process.kill('SIGCONT');
  }

  async stop() {
    this.process.kill('SIGKILL');
    await this.exited;
    await rm(this.dir, { recursive: true, force: true });
  }
}

/* A node on this Redis that can be killed, and started again on its port. */
export function node(redis, name, options = {}) {
  return Mortal.start({ 'server.node': name, 'bus.url': redis.url, 'bus.canary_interval': '200ms', ...options }, ready);
}

async function ready(server) {
  await until(async () => (await fetch(`${server.url}/readyz`)).ok, 'a node on Redis to be ready', 15_000);
}
