/* What both transports promise alike: the same cases, run over each. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { aMoment, connected, listening, setup, until } from './helpers.js';

for (const transport of ['websocket', 'longpoll']) {
  const over = (name, body) =>
    test(`${transport}: ${name}`, async (t) => {
      const { server, open } = await setup(t);
      await body({ server, open: (options) => open({ transports: [transport], ...options }), t });
    });

  over('events arrive in order and move the position', async ({ server, open }) => {
    const client = open();
    await connected(client, transport);
    const ids = [1, 2, 3].map((n) => server.publish({ n }).event_id);
    await until(() => client.seen.length === 3);
    assert.deepEqual(client.seen, ids);
    assert.equal(client.lastEventId, ids[2]);
    assert.deepEqual(client.states, ['connecting', `connected ${transport}`]);
  });

  over('who serves it is known', async ({ open }) => {
    const client = open();
    await connected(client);
    assert.deepEqual([client.node, client.communities], ['fake', [42]]);
  });

  over('an event that comes again is dropped', async ({ server, open }) => {
    const client = open();
    await connected(client);
    const first = server.publish();
    await until(() => client.seen.length === 1);
    await aMoment(20);
    server.repeat(first);
    const second = server.publish();
    await until(() => client.seen.length === 2);
    assert.deepEqual(client.seen, [first.event_id, second.event_id]);
  });

  over('the position moves without events', async ({ server, open }) => {
    const client = open();
    await listening(server, client);
    server.tell({ op: 'events', events: [], last_event_id: 5000 });
    await until(() => client.lastEventId === 5000);
  });

  over('what happened while the link was cut is delivered afterwards, on the same queue', async ({ server, open }) => {
    const client = open();
    await connected(client);
    const { queueId } = client;
    client.cut();
    assert.notEqual(client.state, 'connected');
    assert.equal(client.transport, undefined);
    const missed = server.publish();
    await until(() => client.seen.length === 1);
    assert.deepEqual(client.seen, [missed.event_id]);
    assert.equal(client.queueId, queueId);
  });

  over('a gap is told and the position follows, even backwards', async ({ server, open }) => {
    const client = open({ lastEventId: 9000 });
    await listening(server, client);
    server.tell({ op: 'catchup_required', catchup_required: true, reason: 'epoch', last_event_id: 1000, communities: [42] });
    await until(() => client.gaps.length === 1);
    assert.deepEqual(client.gaps, [{ reason: 'epoch', communities: [42], articles: undefined, lastEventId: 1000 }]);
    assert.equal(client.lastEventId, 1000);
  });

  over('signals are passed on, known or not', async ({ server, open }) => {
    const client = open();
    await listening(server, client);
    server.tell({ op: 'signal', type: 'shooting_star', where: 'west' });
    await until(() => client.signals.length === 1);
    assert.deepEqual(client.signals, [{ type: 'shooting_star', where: 'west' }]);
  });

  over('a handler that throws is reported, and neither stops another nor sees the event again', async ({ server, open }) => {
    const client = open();
    let calls = 0;
    const broken = client.on('event', () => {
      calls += 1;
      throw new Error('broken');
    });
    await connected(client);
    server.publish();
    await until(() => client.errors.length === 1);
    broken();
    client.on('event', () => (calls += 100));
    server.publish();
    await until(() => client.seen.length === 2);
    assert.equal(calls, 101);
    assert.deepEqual(client.errors, ['handler']);
  });

  over('a handler that closes the client gets nothing more', async ({ server, open }) => {
    const client = open({ lastEventId: 1 });
    server.publish();
    server.publish();
    client.on('event', () => client.close());
    await until(() => client.state === 'closed');
    await aMoment();
    assert.equal(client.seen.length, 1);
    assert.equal(client.lastEventId, client.seen[0]);
  });

  over('publish resolves with the id and is not echoed', async ({ server, open }) => {
    const [ada, bob] = [open(), open()];
    await connected(ada);
    await connected(bob);
    const { event_id: id } = await ada.publish({ type: 'new_comment', data: { article_id: 789 } });
    await until(() => bob.seen.length === 1);
    assert.deepEqual(bob.seen, [id]);
    assert.deepEqual(ada.seen, []);
    assert.deepEqual(server.messages.find(({ op }) => op === 'publish').data, { article_id: 789 });
  });

  over('publish waits for a link', async ({ open }) => {
    const client = open();
    assert.equal(client.state, 'connecting');
    assert.ok((await client.publish({ type: 'new_comment', data: {} })).event_id);
  });

  over('publish without a reply in time is rejected', async ({ server, open }) => {
    const client = open({ timing: { requestMs: 40 } });
    await connected(client);
    await server.stop();
    await assert.rejects(client.publish({ type: 'new_comment', data: {} }), ({ code }) => code === 'timeout' || code === 'connection_lost');
    await server.listen();
  });

  over('subscribe narrows to an article, its undo to nothing, and a new queue is told again', async ({ server, open }) => {
    const client = open();
    const got = [];
    const undo = client.subscribe({ community: 42, article: 789 }, (event) => got.push(event.data.article_id));
    await until(() => server.messages.length === 1);
    await aMoment(20);
    server.publish({ article_id: 1 });
    server.publish({ article_id: 789 });
    await until(() => got.length === 1);
    assert.deepEqual([client.seen.length, got[0]], [1, 789]);

    server.queues.clear();
    client.cut();
    await until(() => server.messages.filter(({ op }) => op === 'subscribe').length === 2);
    await aMoment(20);
    undo();
    undo();
    await until(() => server.messages.some(({ op }) => op === 'unsubscribe'));
    await aMoment(20);
    server.publish({ article_id: 789 });
    await aMoment();
    assert.equal(got.length, 1);
    assert.equal(client.seen.length, 1);
  });

  over('a second handler of the same topic asks nothing of the server and keeps it when the first goes', async ({ server, open }) => {
    const client = open();
    let got = 0;
    const undo = client.subscribe({ community: 42 }, () => got++);
    client.subscribe({ community: 42 }, () => got++);
    await connected(client);
    undo();
    await aMoment(20);
    server.publish();
    await until(() => got === 1);
    assert.deepEqual(server.messages.map(({ op }) => op).filter((op) => op !== 'ack'), ['subscribe']);
  });

  over('an expired token is replaced once, on the same queue', async ({ server, open }) => {
    const tokens = ['old', 'new', 'newer'];
    server.tokens = new Set(['old']);
    const client = open({ getToken: async () => tokens.shift() });
    await listening(server, client);
    const { queueId } = client;
    server.tokens = new Set(['new']);
    if (transport === 'websocket') server.closeSockets(4401, 'token_expired');
    else server.tell({ op: 'events', events: [], last_event_id: 1000 });
    await until(() => tokens.length === 1);
    await connected(client);
    assert.equal(client.queueId, queueId);
    assert.deepEqual(client.errors, []);
  });

  over('a new token that is refused as well is the end', async ({ server, open }) => {
    let asked = 0;
    server.tokens = new Set();
    const client = open({ getToken: () => `bad${asked++}` });
    await until(() => client.state === 'closed');
    assert.equal(asked, 2);
    assert.deepEqual(client.errors, ['token_expired']);
  });

  over('a token that cannot be had is reported and tried again', async ({ open }) => {
    let asked = 0;
    const client = open({
      getToken: async () => {
        if (asked++) return 'token';
        throw new Error('backend is away');
      },
    });
    await connected(client);
    assert.deepEqual(client.errors, ['get_token']);
  });

  over('a queue of the backend is resumed without a token, and its end is final', async ({ server, open }) => {
    const helper = open();
    await connected(helper);
    const { queueId } = helper;
    helper.close({ keepQueue: true });
    const missed = server.publish();
    const client = open({ getToken: undefined, queue: { queue_id: queueId, last_event_id: 1000 } });
    await until(() => client.seen.length === 1);
    assert.deepEqual(client.seen, [missed.event_id]);
    server.queues.clear();
    client.cut();
    await until(() => client.state === 'closed');
    assert.deepEqual(client.errors, ['queue_not_found']);
  });

  over('a queue that is gone is made anew, going on from the position', async ({ server, open }) => {
    const client = open();
    await connected(client);
    server.publish();
    await until(() => client.seen.length === 1);
    server.queues.clear();
    client.cut();
    const missed = server.publish();
    await until(() => client.seen.length === 2);
    assert.equal(client.seen[1], missed.event_id);
  });

  over('a link that was replaced by another client stops for good', async ({ server, open }) => {
    const first = open();
    await connected(first);
    const second = open({ queue: { queue_id: first.queueId, last_event_id: first.lastEventId } });
    await until(() => first.state === 'closed');
    await connected(second);
    await aMoment();
    assert.equal(first.state, 'closed');
    assert.deepEqual(first.errors, ['replaced']);
    server.publish();
    await until(() => second.seen.length === 1);
  });

  over('a link that is lost before the time that goaway named is not made good earlier', async ({ server, open }) => {
    const client = open();
    await listening(server, client);
    const from = Date.now();
    server.tell({ op: 'goaway', reason: 'draining', reconnect_after_ms: 300 });
    await until(() => transport === 'websocket' || server.connections.length === 2);
    await aMoment(20);
    client.cut();
    assert.notEqual(client.state, 'connected');
    await connected(client);
    assert.ok(Date.now() - from >= 290, `${Date.now() - from} ms`);
  });

  over('goaway is followed to a new link at the time it names, without a gap', async ({ server, open }) => {
    const client = open();
    await listening(server, client);
    /* Those that begin a link, not the polls that follow on it. */
    const links = () => server.connections.filter(({ hold }) => hold !== 50).length;
    const before = links();
    server.tell({ op: 'goaway', reason: 'draining', reconnect_after_ms: 80, transports: [transport] });
    await aMoment(20);
    server.publish();
    await until(() => client.seen.length === 1);
    await until(() => links() > before);
    await aMoment(20);
    server.publish();
    await until(() => client.seen.length === 2);
    assert.ok(!client.states.includes('waiting'));
  });

  over('a server that was away is found again on the same transport and queue', async ({ server, open }) => {
    const client = open({ transports: undefined, ...(transport === 'longpoll' && { transports: ['longpoll'] }) });
    await connected(client, transport);
    const { queueId } = client;
    await server.stop();
    const missed = server.publish();
    await until(() => client.states.includes('waiting'));
    await aMoment(200);
    await server.listen();
    await until(() => client.seen.length === 1);
    assert.deepEqual([client.seen[0], client.queueId, client.transport], [missed.event_id, queueId, transport]);
  });

  over('close ends the queue on the server, unless it is to be kept', async ({ server, open }) => {
    const [gone, kept] = [open(), open()];
    await connected(gone);
    await connected(kept);
    kept.close({ keepQueue: true });
    gone.close();
    gone.close();
    assert.deepEqual([gone.state, gone.transport, gone.queueId], ['closed', undefined, undefined]);
    assert.ok(kept.queueId);
    if (transport === 'longpoll') await until(() => server.queues.size === 1);
    await assert.rejects(gone.publish({ type: 'x', data: {} }), { code: 'closed' });
    kept.connect();
    await connected(kept);
    server.publish();
    await until(() => kept.seen.length === 1);
  });
}
