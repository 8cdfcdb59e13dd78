// Debian's nginx and HAProxy in front of the application and the server, each with one way to be in the way:
//
//   fair        lets everything through
//   refused     answers the upgrade with 403
//   killed      lets the upgrade through and ends the socket after 300 ms without traffic
//   idle        ends sockets and polls after 10 s without traffic
//   buffering   reads whole answers before it passes them on, compresses them, and refuses the upgrade
//
// Behind them may be several servers, taken in turn: no sticky sessions.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { createServer, connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { until } from './harness.mjs';

export const BINARIES = { nginx: '/usr/sbin/nginx', haproxy: '/usr/sbin/haproxy' };
export const WAYS = ['fair', 'refused', 'killed', 'idle', 'buffering'];
export const installed = (name) => existsSync(BINARIES[name]);

const host = (url) => new URL(url).host;
const serversOf = (urls, line) => [urls].flat().map((url, i) => line(host(url), i)).join('\n    ');

const PATIENT = 'proxy_read_timeout 90s;';
const NGINX_SOCKET = {
  refused: 'return 403;',
  buffering: 'return 403;',
  killed: 'proxy_read_timeout 300ms;',
  idle: 'proxy_read_timeout 10s;',
};
const NGINX_HTTP = {
  idle: 'proxy_read_timeout 10s;',
  buffering: `${PATIENT} proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;
      gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any;`,
};

function nginxConfig({ dir, port, way, server, application }) {
  const pass = `proxy_http_version 1.1; proxy_set_header Host $http_host; proxy_pass http://parley;`;
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${dir}/${name};`).join(' ');
  return `
daemon off;
master_process off;
pid ${dir}/nginx.pid;
error_log ${dir}/error.log;
events { worker_connections 1000; }
http {
  access_log off;
  upstream parley {
    ${serversOf(server, (address) => `server ${address} max_fails=0;`)}
  }
  ${temporary}
  server {
    listen 127.0.0.1:${port};
    location /realtime/ws {
      ${pass}
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
      ${NGINX_SOCKET[way] ?? PATIENT}
    }
    location /realtime/ {
      ${pass}
      proxy_set_header Connection "";
      ${NGINX_HTTP[way] ?? PATIENT}
    }
    location / { proxy_pass http://${host(application)}; }
  }
}
`;
}

const REFUSE = 'http-request deny deny_status 403 if { hdr(Upgrade) -i websocket }';
const HAPROXY = {
  fair: ['timeout server 90s', 'timeout tunnel 1h'],
  refused: ['timeout server 90s', REFUSE],
  killed: ['timeout server 90s', 'timeout tunnel 300ms'],
  idle: ['timeout server 10s', 'timeout tunnel 10s'],
  buffering: ['timeout server 90s', 'option http-buffer-request', 'compression algo gzip', 'compression type application/json', REFUSE],
};

function haproxyConfig({ port, way, server, application }) {
  return `
defaults
  mode http
  timeout connect 5s
  timeout client 90s
  timeout server 30s

frontend www
  bind 127.0.0.1:${port}
  use_backend parley if { path_beg /realtime/ }
  default_backend application

backend application
  server application ${host(application)}

backend parley
  ${HAPROXY[way].join('\n  ')}
  balance roundrobin
  option redispatch 1
  ${serversOf(server, (address, i) => `server parley${i} ${address}`)}
`;
}

const COMMANDS = {
  nginx: (dir, file) => ['-p', dir, '-c', file, '-e', `${dir}/error.log`],
  haproxy: (dir, file) => ['-db', '-q', '-f', file],
};
const CONFIGS = { nginx: nginxConfig, haproxy: haproxyConfig };

export async function freePort() {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  return port;
}

export async function answers(port) {
  const socket = connect(port, '127.0.0.1');
  const open = await once(socket, 'connect').then(() => true, () => false);
  socket.destroy();
  return open;
}

export class Proxy {
  /** `server`, or several, and `application`: URLs behind it. */
  static async start(name, way, { server, application = 'http://127.0.0.1:1' }) {
    const proxy = new Proxy();
    proxy.dir = await mkdtemp(path.join(tmpdir(), `parley-${name}-`));
    const port = await freePort();
    const file = path.join(proxy.dir, `${name}.conf`);
    await writeFile(file, CONFIGS[name]({ dir: proxy.dir, port, way, server, application }));
    proxy.process = spawn(BINARIES[name], COMMANDS[name](proxy.dir, file), { stdio: ['ignore', 'ignore', 'pipe'] });
    proxy.stderr = '';
    proxy.process.stderr.on('data', (data) => { proxy.stderr += data; });
    proxy.exited = once(proxy.process, 'exit');
    await until(async () => {
      if (proxy.process.exitCode !== null) throw new Error(`${name} ${way}: ${proxy.stderr}`);
      return answers(port);
    }, `${name} ${way}`);
    proxy.url = `http://127.0.0.1:${port}`;
    return proxy;
  }

  async stop() {
    this.process.kill('SIGTERM');
    const timer = setTimeout(() => this.process.kill('SIGKILL'), 3000);
    await this.exited;
    clearTimeout(timer);
    await rm(this.dir, { recursive: true, force: true });
  }
}
