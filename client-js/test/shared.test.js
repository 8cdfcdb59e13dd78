/* One connection for all tabs: whoever leads, each tab sees each event once and in order. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { aMoment, until } from './helpers.js';
import { SHORT_PULSE, browser, leaderOf } from './shared_tabs.js';

/* Publishes until told to stop. */
function publishing(server, everyMs = 4) {
  const ids = [];
  const timer = setInterval(() => ids.push(server.publish().event_id), everyMs);
  return () => (clearInterval(timer), ids);
}

const sawAll = async (tabs, ids) => {
  await until(() => tabs.every((tab) => tab.seen.at(-1) >= ids.at(-1))).catch(() => {});
  for (const tab of tabs) assert.deepEqual(tab.seen, ids, tab.id);
};

test('ten tabs have one connection, and each sees each event once', async (t) => {
  const { server, openAll } = await browser(t);
  const tabs = await openAll(10);
  const ids = [1, 2, 3].map(() => server.publish().event_id);
  await sawAll(tabs, ids);
  assert.equal(server.connections.length, 1);
  assert.deepEqual([...new Set(tabs.map((tab) => tab.queueId))], ['q1']);
  assert.deepEqual(tabs.map((tab) => tab.leader), [true, ...Array(9).fill(false)]);
  assert.ok(tabs.every((tab) => tab.lastEventId === ids.at(-1) && tab.transport === 'websocket'));
});

for (const transports of [['websocket'], ['longpoll']]) {
  for (const end of ['close', 'crash', 'freeze']) {
    test(`${transports}: the leader is gone (${end}): another leads within 2 s on the same queue, no gap, no duplicate`, async (t) => {
      const { server, openAll } = await browser(t);
      const tabs = await openAll(4, { transports, timing: end === 'freeze' ? SHORT_PULSE : {} });
      const stop = publishing(server);
      await aMoment(50);
      const others = tabs.slice(1);
      const from = Date.now();
      tabs[0][end]();
      await until(() => others.some((tab) => tab.leader && tab.state === 'connected'), 2000);
      t.diagnostic(`another led after ${Date.now() - from} ms`);
      await aMoment(100);
      if (end === 'freeze') tabs[0].thaw();
      await aMoment(200);
      const ids = stop();
      await sawAll(end === 'freeze' ? tabs : others, ids);
      assert.equal(server.queues.size, 1);
      assert.equal(others.filter((tab) => tab.leader).length, 1);
      assert.equal(end === 'freeze' && tabs[0].leader, false);
      assert.ok(others.every((tab) => tab.gaps.length === 0 && tab.errors.length === 0));
    });
  }
}

test('leaders that go one after another, each while the next takes over: the last tab has seen all', async (t) => {
  const { server, openAll } = await browser(t);
  const tabs = await openAll(6);
  const stop = publishing(server);
  for (let n = 0; n < 5; n += 1) {
    await until(() => leaderOf(tabs));
    const leader = leaderOf(tabs);
    leader.gone = true;
    leader.crash();
    await aMoment(20 * n);
  }
  const [last] = tabs.filter((tab) => !tab.gone);
  await until(() => last.state === 'connected' && last.leader);
  const ids = stop();
  await sawAll([last], ids);
  assert.equal(server.queues.size, 1);
});

test('a tab that comes late has state and position at once, and what follows', async (t) => {
  const { server, open, openAll } = await browser(t);
  const tabs = await openAll(2);
  const before = server.publish();
  await until(() => tabs[1].seen.length === 1);
  const late = open();
  await until(() => late.state === 'connected' && late.lastEventId !== undefined);
  assert.deepEqual([late.transport, late.queueId, late.lastEventId, late.leader], ['websocket', 'q1', before.event_id, false]);
  const after = server.publish();
  await sawAll([late], [after.event_id]);
});

test('a tab that comes with an older position gets what the others have kept, without another connection', async (t) => {
  const { server, open, openAll } = await browser(t);
  const tabs = await openAll(2);
  const ids = [1, 2, 3].map(() => server.publish().event_id);
  await sawAll(tabs, ids);
  const late = open({ lastEventId: ids[0] });
  await sawAll([late], ids.slice(1));
  assert.equal(server.connections.length, 1);
});

test('a tab that comes with a position older than what is kept: the queue goes back, and only that tab sees it', async (t) => {
  const { server, open, openAll } = await browser(t);
  const old = [1, 2, 3].map(() => server.publish().event_id);
  const tabs = await openAll(3);
  const fresh = server.publish().event_id;
  await sawAll(tabs, [fresh]);
  const late = open({ lastEventId: old[0] });
  await sawAll([late], [old[1], old[2], fresh]);
  const last = server.publish().event_id;
  await sawAll([...tabs, late], [fresh, last]).catch(() => {});
  assert.deepEqual(tabs.map((tab) => tab.seen), Array(3).fill([fresh, last]));
  assert.deepEqual(late.seen, [old[1], old[2], fresh, last]);
  assert.equal(server.queues.size, 1);
});

test('a position that the server has no more is a gap for that tab alone', async (t) => {
  const { server, open, openAll } = await browser(t);
  server.publish();
  const tabs = await openAll(2, { transports: ['websocket'] });
  const fresh = server.publish().event_id;
  await sawAll(tabs, [fresh]);
  const log = server.log.splice(0); // so that going back brings nothing
  const late = open({ transports: ['websocket'], lastEventId: 5 });
  await until(() => server.connections.at(-1).hello?.last_event_id === 5);
  server.tell({ op: 'catchup_required', catchup_required: true, reason: 'trimmed', last_event_id: fresh + 5, communities: [42] });
  server.log.push(...log);
  await until(() => late.gaps.length === 1);
  const next = server.publish().event_id;
  await sawAll(tabs, [fresh, next]);
  await sawAll([late], [next]);
  assert.deepEqual([late.gaps[0].reason, late.gaps[0].communities], ['trimmed', [42]]);
  assert.ok(tabs.every((tab) => tab.gaps.length === 0));
});

test('what one tab publishes has its reply there, and its place in the order of all others', async (t) => {
  const { server, openAll } = await browser(t);
  const tabs = await openAll(3);
  const first = server.publish().event_id;
  const { event_id: mine } = await tabs[1].publish({ type: 'new_comment', data: { community_id: 42, text: 'hello' } });
  const last = server.publish().event_id;
  await sawAll([tabs[0], tabs[2]], [first, mine, last]);
  await sawAll([tabs[1]], [first, last]);
});

test('what one tab publishes into a silence appears in the others soon', async (t) => {
  const { server, openAll } = await browser(t);
  const tabs = await openAll(3);
  const { event_id: mine } = await tabs[0].publish({ type: 'new_comment', data: { community_id: 42 } });
  server.queues.get('q1').position = mine; // what the next pong says
  await sawAll(tabs.slice(1), [mine]);
  assert.deepEqual(tabs[0].seen, []);
});

test('a refused publish is refused where it was asked', async (t) => {
  const { server, openAll } = await browser(t);
  const tabs = await openAll(2, { transports: ['longpoll'] });
  server.script('/realtime/send', 403, { code: 'forbidden', message: 'not yours' });
  await assert.rejects(tabs[1].publish({ type: 'x', data: { community_id: 1 } }), { code: 'forbidden', message: 'not yours' });
});

test('a publish whose leader dies before the reply has an unknown outcome', async (t) => {
  const { openAll } = await browser(t);
  const tabs = await openAll(2);
  tabs[0].crash();
  await assert.rejects(tabs[1].publish({ type: 'x', data: { community_id: 42 } }), { code: 'connection_lost' });
});

test('the queue is narrowed to what all tabs together want, and by nobody who wants more', async (t) => {
  const { server, open, openAll } = await browser(t);
  const [one, two] = await openAll(2);
  const got = { one: [], two: [] };
  one.subscribe({ community: 42, article: 1 }, (event) => got.one.push(event.data.article_id));
  await aMoment(250);
  /* The other has never narrowed: alone it would have all. */
  server.publish({ article_id: 3 });
  await until(() => two.seen.length === 1);
  two.subscribe({ community: 42, article: 2 }, (event) => got.two.push(event.data.article_id));
  await until(() => server.queues.get('q1').narrowed.get(42)?.size === 2);
  for (const article_id of [1, 2, 3]) server.publish({ article_id });
  await until(() => two.seen.length === 3);
  assert.deepEqual(got, { one: [1], two: [2] });
  const three = open();
  await until(() => !server.queues.get('q1').narrowed.get(42));
  three.crash();
  await until(() => server.queues.get('q1').narrowed.get(42)?.size === 2);
  two.crash();
  await until(() => server.queues.get('q1').narrowed.get(42)?.size === 1);
});

test('a new leader narrows to what all want, not only itself', async (t) => {
  const { server, openAll } = await browser(t);
  const tabs = await openAll(3);
  tabs.forEach((tab, article) => tab.subscribe({ community: 42, article }, () => {}));
  await until(() => server.queues.get('q1').narrowed.get(42)?.size === 3);
  tabs[0].close();
  await until(() => leaderOf(tabs.slice(1))?.state === 'connected');
  await aMoment(250);
  const ids = [1, 2].map((article_id) => server.publish({ article_id }).event_id);
  await sawAll(tabs.slice(1), ids);
});

test('gaps, signals and errors of the connection reach every tab', async (t) => {
  const { server, openAll } = await browser(t);
  const tabs = await openAll(3);
  server.tell({ op: 'signal', type: 'shooting_star', where: 'west' });
  server.tell({ op: 'catchup_required', catchup_required: true, reason: 'epoch', last_event_id: 900, communities: [42] });
  server.tell({ op: 'reply', error: { code: 'invalid', message: 'odd' } });
  await until(() => tabs.every((tab) => tab.gaps.length && tab.signals.length && tab.errors.length));
  for (const tab of tabs) {
    assert.deepEqual(tab.signals, [{ type: 'shooting_star', where: 'west' }]);
    assert.deepEqual([tab.gaps[0].reason, tab.gaps[0].lastEventId, tab.lastEventId], ['epoch', 900, 900]);
    assert.deepEqual(tab.errors, ['invalid']);
  }
  const ids = [server.publish().event_id];
  await sawAll(tabs, ids);
});

test('a connection that is closed for good closes every tab, with the reason', async (t) => {
  const { server, openAll } = await browser(t);
  const tabs = await openAll(3);
  server.closeSockets(4403, 'forbidden');
  await until(() => tabs.every((tab) => tab.state === 'closed'));
  for (const tab of tabs) assert.deepEqual(tab.errors, ['forbidden']);
  tabs[1].connect();
  await until(() => tabs[1].state === 'connected' && tabs[1].leader);
});

test('a queue that somebody else takes is taken back once, and not a second time', async (t) => {
  const { server, openAll } = await browser(t);
  const tabs = await openAll(2);
  server.closeSockets(4409, 'replaced');
  await until(() => server.connections.length === 2 && server.reaches('q1'));
  server.closeSockets(4409, 'replaced');
  await until(() => tabs.every((tab) => tab.state === 'closed'));
});

test('closing all tabs ends the queue; with keepQueue it stays', async (t) => {
  const { server, openAll } = await browser(t);
  const tabs = await openAll(3, { transports: ['longpoll'] });
  tabs[1].close();
  tabs[0].close();
  await until(() => tabs[2].leader && tabs[2].state === 'connected');
  assert.equal(server.queues.size, 1);
  tabs[2].close();
  await until(() => server.queues.size === 0);
  assert.ok(tabs.every((tab) => tab.state === 'closed' && !tab.leader));
});

test('tokens are got by the tab that leads', async (t) => {
  const { open, openAll } = await browser(t);
  const asked = [];
  const [one] = await openAll(1, { getToken: () => (asked.push('one'), 'one') });
  const two = open({ getToken: () => (asked.push('two'), 'two') });
  await until(() => two.state === 'connected');
  assert.deepEqual(asked, ['one']);
  one.close();
  await until(() => two.leader && two.state === 'connected');
  assert.deepEqual(asked, ['one', 'two']);
});

test('queues registered by the application: asked for once, by the tab that leads', async (t) => {
  const { server, openAll } = await browser(t);
  let asked = 0;
  const register = async () => {
    asked += 1;
    const response = await fetch(`${server.url}/realtime/register`, { method: 'POST' });
    return response.json();
  };
  const tabs = await openAll(3, { getToken: undefined, register });
  tabs[0].close();
  await until(() => leaderOf(tabs.slice(1))?.state === 'connected');
  await sawAll(tabs.slice(1), [server.publish().event_id]);
  assert.equal(asked, 1);
  assert.equal(await tabs[1].catchup(({ cursor }) => cursor), tabs[1].lastEventId);
});

test('a tab that catches up holds back its own events only, and goes on after the cursor', async (t) => {
  const { server, openAll } = await browser(t);
  const [one, two] = await openAll(2);
  let after;
  const cursor = await two.catchup(async ({ cursor: taken }) => {
    after = server.publish().event_id;
    await until(() => one.seen.includes(after));
    assert.deepEqual(two.seen, []);
    return taken;
  });
  await until(() => two.seen.length === 1);
  assert.ok(cursor < after);
  assert.deepEqual(two.seen, [after]);
});

test('catching up is a way to begin', async (t) => {
  const { server, open } = await browser(t);
  server.publish();
  const tab = open();
  let after;
  await tab.catchup(() => (after = server.publish().event_id));
  await sawAll([tab], [after]);
});

test('events can be iterated, and closing ends that', async (t) => {
  const { server, openAll } = await browser(t);
  const [, two] = await openAll(2);
  const seen = [];
  const done = (async () => {
    for await (const event of two.events({ community: 42 })) seen.push(event.event_id);
  })();
  await aMoment(20);
  const ids = [server.publish().event_id, server.publish().event_id];
  await until(() => seen.length === 2);
  two.close();
  await done;
  assert.deepEqual(seen, ids);
});

test('a slow handler of one tab delays no other tab, and misses nothing', async (t) => {
  const { server, openAll } = await browser(t);
  const [one, two] = await openAll(2, { maxPending: 5 });
  const slow = [];
  two.on('event', async (event) => {
    await aMoment(5);
    slow.push(event.event_id);
  });
  const ids = Array.from({ length: 40 }, () => server.publish().event_id);
  await sawAll([one], ids);
  assert.ok(slow.length < 40);
  await until(() => slow.length === 40);
  assert.deepEqual(slow, ids);
});

test('cut, forbid and allow break the shared network from any tab', async (t) => {
  const { server, openAll } = await browser(t);
  const [one, two] = await openAll(2);
  two.forbid('websocket');
  await until(() => one.transport === 'longpoll' && two.transport === 'longpoll' && two.state === 'connected');
  two.allow('websocket');
  await until(() => one.transport === 'websocket' && two.transport === 'websocket');
  two.cut();
  await until(() => one.states.includes('waiting') && two.states.includes('waiting'));
  await until(() => two.state === 'connected');
  await sawAll([one, two], [server.publish().event_id]);
});

test('what is forbidden before there is a connection is, by whichever tab, and whoever leads later', async (t) => {
  const { server, open } = await browser(t);
  const one = open({ begin: false });
  one.forbid('websocket');
  one.connect();
  await until(() => one.state === 'connected');
  const two = open({ begin: false });
  two.connect();
  await until(() => two.state === 'connected');
  one.crash();
  await until(() => two.leader && two.state === 'connected' && two.transport === 'longpoll');
  assert.deepEqual([...new Set(server.connections.map(({ transport }) => transport))], ['longpoll']);

  const three = open({ begin: false });
  three.forbid('longpoll');
  two.allow('websocket');
  three.connect();
  await until(() => two.transport === 'websocket' && three.transport === 'websocket');
  two.crash();
  await until(() => three.leader && three.state === 'connected');
  assert.equal(three.transport, 'websocket');
  await sawAll([three], [server.publish().event_id]);
});

test('who was away does not forbid again what the others have allowed meanwhile', async (t) => {
  const { openAll } = await browser(t);
  const [one, two] = await openAll(2);
  two.forbid('websocket');
  await until(() => one.transport === 'longpoll' && one.state === 'connected');
  two.close();
  one.allow('websocket');
  await until(() => one.transport === 'websocket');
  two.connect();
  await until(() => two.state === 'connected');
  await aMoment();
  assert.deepEqual([one.transport, two.transport], ['websocket', 'websocket']);
});

test('without locks each tab has a connection of its own', async (t) => {
  const { server, open } = await browser(t);
  const tabs = [open({ locks: null }), open({ BroadcastChannel: null })];
  await until(() => tabs.every((tab) => tab.state === 'connected' && tab.leader));
  assert.equal(server.connections.length, 2);
  const id = server.publish().event_id;
  await sawAll(tabs, [id]);
  const { event_id: mine } = await tabs[0].publish({ type: 'x', data: { community_id: 42 } });
  await sawAll([tabs[1]], [id, mine]);
});

test('a reload goes on where the tab was: nothing missed, nothing twice', async (t) => {
  const { server, open, openAll } = await browser(t);
  const kept = new Map();
  const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value), removeItem: (key) => kept.delete(key) };
  const [one] = await openAll(2);
  const page = new EventTarget();
  const before = open({ storage, page });
  await until(() => before.state === 'connected');
  const first = server.publish().event_id;
  await sawAll([before], [first]);
  page.dispatchEvent(Object.assign(new Event('pagehide'), { persisted: false }));
  const missed = server.publish().event_id;
  await until(() => one.seen.includes(missed));
  const after = open({ storage });
  await sawAll([after], [missed]);
});

test('a page that sleeps hands over the lead; when it comes back it has missed nothing', async (t) => {
  const { server, open, openAll } = await browser(t);
  const page = new EventTarget();
  const [sleeper] = await openAll(1, { page });
  const other = open();
  await until(() => other.state === 'connected');
  page.dispatchEvent(Object.assign(new Event('pagehide'), { persisted: true }));
  assert.equal(sleeper.state, 'waiting');
  await until(() => other.leader && other.state === 'connected');
  const missed = server.publish().event_id;
  await until(() => other.seen.length === 1);
  page.dispatchEvent(new Event('pageshow'));
  await sawAll([sleeper, other], [missed]);
  assert.equal(sleeper.leader, false);
});

test('a page that is told that it will be frozen hands over the lead before', async (t) => {
  const { server, open, openAll } = await browser(t);
  const page = Object.assign(new EventTarget(), { document: new EventTarget() });
  const [sleeper] = await openAll(1, { page });
  const other = open();
  await until(() => other.state === 'connected');
  page.document.dispatchEvent(new Event('freeze'));
  assert.equal(sleeper.leader, false);
  await until(() => other.leader && other.state === 'connected');
  const ids = [server.publish().event_id];
  await until(() => other.seen.length === 1);
  page.document.dispatchEvent(new Event('resume'));
  await sawAll([sleeper, other], ids);
});

test('a lone page that goes away for good ends its queue', async (t) => {
  const { server, openAll } = await browser(t);
  const page = new EventTarget();
  await openAll(1, { page, transports: ['longpoll'] });
  page.dispatchEvent(Object.assign(new Event('pagehide'), { persisted: false }));
  await until(() => server.queues.size === 0);
});

test('an aborted signal closes the tab, and keeps it from being opened', async (t) => {
  const { open, openAll } = await browser(t);
  const life = new AbortController();
  const [one] = await openAll(1);
  const two = open({ signal: life.signal });
  await until(() => two.state === 'connected');
  life.abort();
  assert.equal(two.state, 'closed');
  assert.equal(one.state, 'connected');
  assert.equal(open({ signal: life.signal }).state, 'closed');
});

test('the same mistakes throw as with Parley', async () => {
  const { SharedParley } = await import('../src/shared.js');
  assert.throws(() => new SharedParley({ url: 'nonsense', getToken: () => '' }), TypeError);
  assert.throws(() => new SharedParley({ url: 'http://localhost' }), TypeError);
});
