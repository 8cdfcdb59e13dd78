/* Tokens and registrations: asked for once, early, and given up for good when there are no more. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { aMoment, connected, listening, setup, until } from './helpers.js';

const jwt = (lifeMs, name) => `h.${Buffer.from(JSON.stringify({ exp: (Date.now() + lifeMs) / 1000, name: `ä?>~${name}` })).toString('base64url')}.s`;

for (const transport of ['websocket', 'longpoll']) {
  const over = (name, body) =>
    test(`${transport}: ${name}`, async (t) => {
      const { server, open } = await setup(t);
      await body({ server, open: (options) => open({ transports: [transport], ...options }) });
    });

  over('a token is refreshed before it ends, in place', async ({ server, open }) => {
    const given = [];
    const client = open({ getToken: () => given[given.push(jwt(given.length ? 60_000 : 400, given.length)) - 1] });
    if (transport === 'websocket') server.tokenLifeMs = 400;
    await listening(server, client);
    server.tokenLifeMs = undefined;
    await until(() => server.messages.some(({ op }) => op === 'refresh'));
    await aMoment(400);
    assert.equal(given.length, 2);
    assert.deepEqual(server.messages.filter(({ op }) => op === 'refresh').map(({ token }) => token), [given[1]]);
    assert.deepEqual(client.states, ['connecting', `connected ${transport}`]);
    if (transport === 'longpoll') {
      server.publish();
      await until(() => client.seen.length === 1);
      await listening(server, client);
      assert.equal(server.authorizations.at(-1), given[1]);
    }
  });

  over('a refresh that fails is tried again in what is left', async ({ server, open }) => {
    let asked = 0;
    const client = open({
      getToken: () => {
        asked += 1;
        if (asked === 2) throw new Error('backend is away');
        return jwt(asked === 1 ? 500 : 60_000, asked);
      },
    });
    await listening(server, client);
    await until(() => server.messages.some(({ op }) => op === 'refresh'));
    assert.deepEqual([asked, client.errors, client.state], [3, ['get_token'], 'connected']);
  });

  over('no more tokens is the end, and says so', async ({ server, open }) => {
    let asked = 0;
    const client = open({ getToken: () => (asked++ ? null : jwt(200, 1)) });
    await listening(server, client);
    await until(() => client.state === 'closed');
    assert.deepEqual(client.errors, ['no_token']);
    assert.equal(asked, 2);
  });

  over('the application registers the queue; the client needs nothing else', async ({ server, open }) => {
    const registered = [];
    const register = async () => {
      const response = await fetch(`${server.url}/realtime/register`, { method: 'POST' });
      registered.push(await response.json());
      return registered.at(-1);
    };
    const client = open({ getToken: undefined, register });
    await listening(server, client);
    assert.equal(client.queueId, registered[0].queue_id);
    assert.deepEqual(client.communities, [42]);
    const first = server.publish();
    await until(() => client.seen.length === 1);
    assert.ok(server.authorizations.every((token) => token === undefined));
    assert.ok(server.connections.every(({ hello }) => !hello?.token));

    /* Gone: registered again, going on from the position. */
    server.queues.clear();
    client.cut();
    const missed = server.publish();
    await until(() => client.seen.length === 2);
    assert.deepEqual(client.seen, [first.event_id, missed.event_id]);
    assert.equal(registered.length, 2);
    assert.deepEqual(client.errors, []);
  });
}

test('a registration that fails is tried again; one that gives nothing is the end', async (t) => {
  const { open } = await setup(t);
  let asked = 0;
  const client = open({
    getToken: undefined,
    register() {
      asked += 1;
      if (asked === 1) throw new Error('backend is away');
      return null;
    },
  });
  await until(() => client.state === 'closed');
  assert.deepEqual([asked, client.errors], [2, ['register', 'no_queue']]);
});

test('the transports that came with the registration count from the first link on', async (t) => {
  const { server, open } = await setup(t);
  server.transports = ['longpoll'];
  const register = async () => (await fetch(`${server.url}/realtime/register`, { method: 'POST' })).json();
  const client = open({ getToken: undefined, register });
  await listening(server, client);
  assert.ok(server.connections.every(({ transport }) => transport === 'longpoll'));
});

test('a token is asked for once, however many need it, and is told when nobody does any more', async (t) => {
  const { server, open } = await setup(t);
  let asked = 0;
  let heard;
  const client = open({
    begin: false,
    getToken({ signal }) {
      asked += 1;
      heard = signal;
      return aMoment(30).then(() => 'token');
    },
  });
  const both = [client.catchup(() => 1), client.catchup(() => 2)];
  client.connect();
  await connected(client);
  assert.deepEqual(await Promise.all(both), [1, 2]);
  assert.equal(asked, 1);
  client.close();
  assert.ok(heard.aborted);
  assert.ok(server.requests.includes('GET /realtime/cursor'));
});

test('a client closed and connected again does not wait for what it asked in its former life', async (t) => {
  const { open } = await setup(t);
  let asked = 0;
  const client = open({ getToken: () => (asked++ ? 'token' : new Promise(() => {})) });
  await aMoment(20);
  client.close();
  client.connect();
  await connected(client);
  assert.equal(asked, 2);
});
