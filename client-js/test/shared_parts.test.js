/* What the tabs are built of, each part alone. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Election, Watch } from '../src/shared_election.js';
import { Mailbox } from '../src/shared_mailbox.js';
import { Stream } from '../src/shared_stream.js';
import { merged, narrowed } from '../src/shared_topics.js';
import { FakeLocks } from './shared_tabs.js';

const event = (event_id) => ({ event_id });
const events = (...ids) => ids.map(event);
const turn = () => new Promise(setImmediate);

/* -------------------------------------------------------------------------------------------- topics */

test('a tab narrows as the server would', () => {
  const after = (...messages) =>
    messages.reduce((topics, [op, community_id, article_id]) => narrowed(topics, { op, community_id, article_id }), new Map());
  assert.deepEqual(after(['subscribe', 1, 7], ['subscribe', 1, 8]).get(1), new Set([7, 8]));
  assert.equal(after(['subscribe', 1, 7], ['subscribe', 1]).get(1), 'all');
  assert.deepEqual(after(['subscribe', 1], ['subscribe', 1, 7]).get(1), new Set([7]));
  assert.deepEqual(after(['subscribe', 1, 7], ['unsubscribe', 1, 7]).get(1), new Set());
  assert.deepEqual(after(['subscribe', 1], ['unsubscribe', 1]).get(1), new Set());
  assert.equal(after(['unsubscribe', 1, 7]).has(1), false, 'what was never narrowed is all of it, less one article is still not a set');
});

test('the shared queue is narrowed only as far as every tab has narrowed', () => {
  const tab = (...topics) => new Map(topics);
  assert.deepEqual(merged([tab([1, new Set([7])]), tab([1, new Set([8])])]), tab([1, new Set([7, 8])]));
  assert.deepEqual(merged([tab([1, new Set([7])]), tab([1, 'all'])]), tab([1, 'all']));
  assert.deepEqual(merged([tab([1, new Set([7])]), tab()]), tab([1, 'all']));
  assert.deepEqual(merged([tab([1, new Set()])]), tab([1, new Set()]));
  assert.deepEqual(merged([tab(), tab()]), tab());
});

/* -------------------------------------------------------------------------------------------- stream */

test('stretches that follow each other are one', () => {
  const stream = new Stream();
  stream.add({ after: 10, events: events(11, 12), at: 15 });
  stream.add({ after: 12, events: events(12, 16), at: 16 });
  assert.deepEqual(stream.since(10), { after: 10, events: events(11, 12, 16), at: 16 });
  assert.deepEqual(stream.since(13).events, events(16));
  assert.equal(stream.since(9), undefined);
  assert.equal(stream.since(undefined), undefined);
});

test('a hole makes what was before it useless', () => {
  const stream = new Stream();
  stream.add({ after: 10, events: events(11), at: 11 });
  stream.add({ after: 20, events: events(21), at: 21 });
  assert.equal(stream.since(11), undefined);
  assert.deepEqual(stream.since(20).events, events(21));
});

test('a stretch that begins earlier repeats nothing', () => {
  const stream = new Stream();
  stream.add({ after: 10, events: events(11, 12), at: 12 });
  stream.add({ after: 5, events: events(6, 11, 12, 13), at: 13 });
  assert.deepEqual(stream.since(10).events, events(11, 12, 13));
  assert.equal(stream.since(5), undefined);
});

test('what was published here waits for the stream to come so far', () => {
  const stream = new Stream();
  stream.add({ after: 10, events: events(11), at: 11 });
  stream.put(event(15));
  assert.deepEqual(stream.since(10).events, events(11));
  stream.add({ after: 11, events: events(14, 16), at: 16 });
  assert.deepEqual(stream.since(10).events, events(11, 14, 15, 16));
});

test('no more is kept than so many, and since() knows', () => {
  const stream = new Stream();
  for (let id = 1; id <= 300; id += 1) stream.add({ after: id - 1, events: events(id), at: id });
  assert.equal(stream.since(43), undefined);
  assert.equal(stream.since(44).events.length, 256);
});

/* ------------------------------------------------------------------------------------------- mailbox */

function mailbox() {
  const told = [];
  const needs = [];
  const box = new Mailbox({ hello() {}, narrow() {}, publish() {}, need: (at) => needs.push(at) });
  const socket = new box.options.WebSocket('ws://nowhere', []);
  socket.onmessage = ({ data }) => told.push(data);
  socket.onopen = () => socket.send({ op: 'hello' });
  const ids = () => told.filter(({ op }) => op === 'events').flatMap((message) => message.events.map(({ event_id }) => event_id));
  const welcomed = async (at = 10) => {
    await turn();
    box.open({ queueId: 'q', at });
    return box;
  };
  return { told, needs, ids, welcomed };
}

test('a client is welcomed where the stream is, once', async () => {
  const { told, welcomed } = mailbox();
  const box = await welcomed(10);
  box.open({ queueId: 'q', at: 20 });
  assert.deepEqual(told.map(({ op, last_event_id }) => [op, last_event_id]), [['welcome', 10]]);
});

test('a client is handed each event once, whatever is told again', async () => {
  const { ids, welcomed } = mailbox();
  const box = await welcomed(10);
  box.take({ after: 10, events: events(11, 12), at: 12 });
  box.take({ after: 5, events: events(6, 11, 12, 13), at: 13 });
  assert.deepEqual(ids(), [11, 12, 13]);
});

test('a stretch that begins after what the client has had is not handed to it: it needs what is between', async () => {
  const { ids, needs, welcomed } = mailbox();
  const box = await welcomed(10);
  box.take({ after: 12, events: events(13), at: 13 });
  assert.deepEqual([ids(), needs], [[], [10]]);
});

test('an echo takes its place in the order; too late for that, it is a gap', async () => {
  const { told, ids, welcomed } = mailbox();
  const box = await welcomed(10);
  box.echo(event(12));
  box.take({ after: 10, events: events(11, 13), at: 13 });
  assert.deepEqual(ids(), [11, 12, 13]);
  box.echo({ event_id: 12, community_ids: [42] });
  assert.deepEqual(told.at(-1), { op: 'catchup_required', catchup_required: true, reason: 'gap', communities: [42], last_event_id: 13 });
});

test('what a tab has published does not come back to it', async () => {
  const { ids, welcomed } = mailbox();
  const box = await welcomed(10);
  box.reply({ id: 1, result: { event_id: 11 } });
  box.take({ after: 10, events: events(11, 12), at: 12 });
  assert.deepEqual(ids(), [12]);
});

/* ------------------------------------------------------------------------------------------ election */

function candidates(count) {
  const locks = new FakeLocks();
  return Array.from({ length: count }, (_, at) => {
    const id = `c${at}`;
    const candidate = { leads: false, lost: 0 };
    const own = locks.of(id);
    own.request(`tab ${id}`, () => new Promise(() => {}));
    const on = { lead: () => (candidate.leads = true), lost: () => ((candidate.leads = false), (candidate.lost += 1)) };
    candidate.election = new Election({ name: 'lead', presence: `tab ${id}`, locks: own, on });
    candidate.election.stand();
    return candidate;
  });
}

const leading = (all) => all.map(({ leads }) => leads);

test('one leads; who resigns is followed by the next', async () => {
  const all = candidates(3);
  await turn();
  assert.deepEqual(leading(all), [true, false, false]);
  all[0].election.resign();
  all[0].leads = false;
  await turn();
  assert.deepEqual(leading(all), [false, true, false]);
  assert.equal(all[0].lost, 0);
});

test('who is robbed of the lead hears of it, and stands again', async () => {
  const all = candidates(2);
  await turn();
  all[1].election.seize();
  await turn();
  assert.deepEqual(leading(all), [false, true]);
  assert.equal(all[0].lost, 1);
  all[1].election.resign();
  all[1].leads = false;
  await turn();
  assert.deepEqual(leading(all), [true, false]);
});

test('a turn that is heard of when another has the lock is not taken', async () => {
  let grant;
  const late = { request: (name, options, granted) => new Promise(() => (grant = granted)), query: async () => ({ held: [{ name: 'lead', clientId: 'other' }, { name: 'tab', clientId: 'me' }] }) };
  let leads = false;
  const election = new Election({ name: 'lead', presence: 'tab', locks: late, on: { lead: () => (leads = true), lost() {} } });
  election.stand();
  grant();
  await turn();
  assert.equal(leads, false);
});

/* A watch on a clock of its own; pass(ms, lateMs) lets time pass in steps that timers see, the last one late. */
function watching(t) {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let now = 0;
  t.mock.method(Date, 'now', () => now);
  const told = [];
  const on = { ask: () => told.push('ask'), dead: () => told.push('dead'), hidden: () => false };
  const pass = (ms, lateMs = 0) => {
    for (let step = 1; step <= ms; step += 1) {
      now += step === ms ? 1 + lateMs : 1;
      t.mock.timers.tick(1);
    }
  };
  return { watch: new Watch({ silentMs: 100, deadMs: 50, staggerMs: 0 }, on), told, pass };
}

test('a silent leader is asked, then given up; a sign of life puts that off', (t) => {
  const { watch, told, pass } = watching(t);
  watch.heard();
  pass(99);
  watch.heard();
  pass(99);
  assert.deepEqual(told, []);
  pass(1);
  assert.deepEqual(told, ['ask']);
  watch.heard();
  pass(149);
  assert.deepEqual(told, ['ask', 'ask']);
  pass(1);
  assert.deepEqual(told, ['ask', 'ask', 'dead']);
});

test('a tab that slept itself does not take that for the silence of another', (t) => {
  const { watch, told, pass } = watching(t);
  watch.heard();
  pass(100, 60_000);
  assert.deepEqual(told, []);
  pass(100);
  assert.deepEqual(told, ['ask']);
  pass(50, 60_000);
  assert.deepEqual(told, ['ask']);
});

test('where every timer comes a minute late, a leader that says nothing all the while is given up', (t) => {
  const { watch, told, pass } = watching(t);
  watch.heard();
  pass(100, 60_000);
  pass(100, 60_000);
  assert.deepEqual(told, ['ask']);
  pass(50, 60_000);
  assert.deepEqual(told, ['ask', 'dead']);
});

test('where every timer comes a minute late, a leader that speaks in between is not', (t) => {
  const { watch, told, pass } = watching(t);
  for (let minute = 0; minute < 5; minute += 1) {
    watch.heard();
    pass(100, 60_000);
    watch.heard();
  }
  assert.deepEqual(told, []);
});

/* --------------------------------------------------------------------------------------------- types */

test('the types of ./shared allow what they should and nothing else', async () => {
  const file = (name) => fileURLToPath(new URL(name, import.meta.url));
  const options = ['--noEmit', '--strict', '--ignoreConfig', '--target', 'es2022', '--lib', 'es2022,dom', '--types', '', '--module', 'nodenext', '--moduleResolution', 'nodenext'];
  const run = promisify(execFile)(file('../node_modules/.bin/tsc'), [...options, file('types/shared.ts')]);
  await run.catch(({ stdout }) => Promise.reject(new Error(stdout)));
});
