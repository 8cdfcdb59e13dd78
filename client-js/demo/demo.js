/* A discussion page on parley-client: one article, one community, several people. URL parameters for impatient people and
 * tests: ?name=Ada&community=42 joins at once, &transport=longpoll forbids WebSocket from the start. */
import { SharedParley } from '/client/shared.js';
import { announce, notify, toast, tone } from './attention.js';
import { Store } from './store.js';
import { View, sending } from './view.js';

const ARTICLE = 789;
const NAMES = ['Ada', 'Grace', 'Linus', 'Barbara', 'Alan', 'Margaret'];

/* Not published by anybody: it belongs to the article, and comments without a discussion go there. */
const FLOOR = {
  kind: 'discussion',
  id: 456,
  eventId: 0,
  author: '#',
  title: 'Open floor',
  text: 'Anything about the article that needs no discussion of its own.',
};

const STATES = { idle: 'Not connected', connecting: 'Connecting', connected: 'Live', degraded: 'Delayed', waiting: 'Reconnecting', closed: 'Closed' };
const TRANSPORTS = { websocket: 'WebSocket', longpoll: 'Long-poll' };
const GAPS = { epoch: 'The server started anew.', trimmed: 'You were away for longer than the server remembers.' };

const $ = (id) => document.getElementById(id);
const parameters = new URLSearchParams(location.search);

let me;
let parley;
let store;
let view;

/* --------------------------------------------------------------------------------------------- joining */

$('name').value = parameters.get('name') ?? '';
if (parameters.has('community')) $('community').value = parameters.get('community');
$('join-form').addEventListener('submit', (event) => {
  event.preventDefault();
  join($('name').value.trim(), Number($('community').value));
});
if ($('name').value && $('community').checkValidity()) join($('name').value, Number($('community').value));

async function join(name, community) {
  me = { name, community, id: name.toLowerCase() };
  $('enter').disabled = true;
  try {
    await getToken();
  } catch (error) {
    $('join-error').textContent = `${error.message} Is parleyd running with --dev?`;
    $('join-error').hidden = false;
    return;
  } finally {
    $('enter').disabled = false;
  }
  $('room-title').textContent = `Community ${community}`;
  $('room-who').textContent = `as ${name}`;
  $('second').href = `/?${new URLSearchParams({ name: NAMES.find((other) => other !== name), community })}`;
  document.title = `Dark skies · Community ${community}`;
  $('join').hidden = true;
  $('room').hidden = false;
  start();
}

async function getToken() {
  const response = await fetch('/demo/token', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ user_id: me.id, community_ids: [me.community] }),
  });
  if (!response.ok) throw new Error(`No token: HTTP ${response.status}.`);
  return (await response.json()).token;
}

/* ------------------------------------------------------------------------------------------ connection */

function start() {
  store = new Store(me.community);
  view = new View({ root: $('discussions'), me, floor: FLOOR, does: { comment, save, remove } });
  load();
  connect();
}

function connect() {
  const name = `parley-demo/${me.community}/${me.id}`;
  parley = new SharedParley({ url: location.origin, name, getToken, lastEventId: store.position });
  parley.on('state', showState);
  parley.on('state', enforce);
  parley.on('latency', showFacts);
  parley.on('gap', showGap);
  parley.on('error', (error) => error.code !== 'get_token' && problem(error));
  parley.subscribe({ community: me.community }, (event) => {
    receive(event);
    store.position = event.event_id;
    showFacts();
  });
  if (parameters.get('transport') === 'longpoll') forbid(true);
  parley.connect();
}

function showState({ state, transport, retryInMs }) {
  if ($('status').dataset.state !== state) announce(STATES[state]);
  $('status').dataset.state = state;
  $('status').dataset.transport = transport ?? '';
  $('status-state').textContent = STATES[state];
  $('status-transport').textContent = TRANSPORTS[transport] ?? '';
  $('fact-state').textContent = retryInMs >= 1000 ? `waits for ${Math.round(retryInMs / 1000)} s` : STATES[state];
  $('cut').disabled = !['connected', 'degraded'].includes(state);
  showFacts();
}

function showFacts() {
  const { transport, latency, node, leader, lastEventId } = parley;
  $('fact-transport').textContent = TRANSPORTS[transport] ?? 'none';
  $('fact-latency').textContent = latency === undefined ? 'not measured' : `${latency < 10 ? latency.toFixed(1) : Math.round(latency)} ms`;
  $('fact-node').textContent = node ?? 'unknown';
  $('fact-tab').textContent = leader ? 'leads' : 'listens to another';
  $('fact-event').textContent = lastEventId ?? 'none';
}

$('cut').addEventListener('click', () => parley.cut());
$('forbid').addEventListener('click', () => forbid($('forbid').getAttribute('aria-pressed') === 'false'));

let led = false;

/* The tab that leads holds the connection: what is forbidden here is forbidden to it, and to this tab once it leads. */
function enforce({ leader, transport }) {
  const forbidden = $('forbid').getAttribute('aria-pressed') === 'true';
  const due = forbidden && (transport === 'websocket' || (leader && !led));
  led = leader;
  if (due) parley.forbid('websocket');
}

function forbid(yes) {
  $('forbid').setAttribute('aria-pressed', yes);
  if (yes) parley.forbid('websocket');
  else parley.allow('websocket');
  if (parley.state === 'closed') parley.connect();
}

/* ---------------------------------------------------------------------------------------------- the rows */

function load() {
  view.clear();
  const rows = store.rows();
  for (const row of rows.filter(({ kind }) => kind === 'discussion')) display(row);
  for (const row of rows.filter(({ kind }) => kind === 'comment')) display(row);
}

function display(row, options) {
  if (row.kind === 'comment' && !view.find({ kind: 'discussion', id: row.discussion })) view.show(unknown(row));
  view.show(row, options);
  $('count').textContent = view.discussions.length;
}

/* Of before this browser came: only its comments are known. */
function unknown({ discussion: id, about, eventId, at }) {
  return { kind: 'discussion', id, eventId, author: about?.author ?? '?', title: about?.title ?? 'An earlier discussion', text: about?.text ?? '', at: about?.created_at ?? at };
}

function put(row, options) {
  display(row, options);
  store.save(row);
}

function drop(row) {
  view.remove(row);
  store.remove(row);
  if (row.kind === 'discussion') store.rows().filter(({ discussion }) => discussion === row.id).forEach((comment) => store.remove(comment));
  $('count').textContent = view.discussions.length;
}

/* ---------------------------------------------------------------------------------------------- receiving */

function receive(event) {
  const [, verb = 'new', kind = 'comment'] = /^(new|updated|deleted)_(discussion|comment)$/.exec(event.type) ?? [];
  RECEIVED[verb](rowOf(event, kind));
}

/* What one has written in another tab comes as an event too. */
const RECEIVED = {
  new(row) {
    if (view.find(row)) return;
    put(row, { fresh: true });
    if (row.author !== me.name) tell(row);
  },
  updated(row) {
    const known = view.find(row);
    if (known) put({ ...known, text: row.text, edited: true }, { fresh: true });
  },
  deleted(row) {
    const known = view.find(row);
    if (known) drop(known);
  },
};

/* Backends write what they like: whatever is not there is made up from the rest. */
function rowOf({ event_id: eventId, type, timestamp, data }, kind) {
  const item = data?.[kind] ?? {};
  const id = item.id ?? data?.[`${kind}_id`] ?? `e${eventId}`;
  const row = { kind, id, eventId, author: String(item.author ?? type), text: String(item.text ?? JSON.stringify(data)), at: item.created_at ?? timestamp };
  if (kind === 'discussion') return { ...row, title: String(item.title ?? 'Untitled') };
  return { ...row, discussion: data?.discussion_id ?? FLOOR.id, about: data?.discussion };
}

function tell(row) {
  const discussion = row.kind === 'comment' && view.find({ kind: 'discussion', id: row.discussion });
  const title = discussion ? `${row.author} in ${discussion.title}` : `${row.author} started a discussion`;
  const text = discussion ? row.text : row.title;
  const go = () => view.reveal(row);
  announce(`${title}: ${text}`);
  tone();
  if (!view.isOnScreen(row)) toast({ author: row.author, title, text, element: view.element(row), go });
  notify({ title, text, tag: String(row.eventId), go });
}

/* ------------------------------------------------------------------------------------------------ writing */

const newId = () => Date.now() * 1000 + Math.floor(Math.random() * 1000);

async function publish(type, data) {
  try {
    const { event_id: eventId } = await parley.publish({ type, data: { article_id: ARTICLE, community_id: me.community, ...data } });
    return eventId;
  } catch (error) {
    problem(error);
    throw error;
  }
}

const wireOf = ({ id, author, title, text, at }) => ({ id, author, ...(title && { title }), text, created_at: at });
const idsOf = (row) => (row.kind === 'comment' ? { discussion_id: row.discussion } : { discussion_id: row.id });

async function comment(discussion, text) {
  const row = { kind: 'comment', id: newId(), discussion: discussion.id, author: me.name, text, at: new Date().toISOString() };
  const about = discussion === FLOOR ? undefined : wireOf(discussion);
  row.eventId = await publish('new_comment', { ...idsOf(row), comment: wireOf(row), ...(about && { discussion: about }) });
  put(row);
  if (!view.isOnScreen(row)) view.element(row).scrollIntoView({ block: 'center' });
}

async function save(row, text) {
  const changed = { ...row, text, edited: true };
  await publish(`updated_${row.kind}`, { ...idsOf(row), [row.kind]: wireOf(changed) });
  put(changed);
}

async function remove(row) {
  await publish(`deleted_${row.kind}`, { ...idsOf(row), [row.kind]: { id: row.id } }).then(() => drop(row), () => {});
}

/* ---------------------------------------------------------------------------------- starting a discussion */

function open(yes) {
  $('start-form').hidden = !yes;
  $('start').setAttribute('aria-expanded', yes);
  (yes ? $('start-title') : $('start')).focus();
}

$('start').addEventListener('click', () => open($('start-form').hidden));
$('start-cancel').addEventListener('click', () => open(false));
$('start-form').addEventListener('keydown', ({ key }) => key === 'Escape' && open(false));

sending($('start-form'), async () => {
  const row = { kind: 'discussion', id: newId(), author: me.name, title: $('start-title').value.trim(), text: $('start-text').value.trim(), at: new Date().toISOString() };
  row.eventId = await publish('new_discussion', { ...idsOf(row), discussion: wireOf(row) });
  put(row);
  $('start-form').reset();
  open(false);
  view.reveal(row);
});

/* --------------------------------------------------------------------------------------- gaps and problems */

function showGap({ reason, lastEventId }) {
  store.reset(lastEventId);
  note(GAPS[reason] ?? `Some events were missed (${reason}).`, 'What was said meanwhile may be missing here.', true);
}

/* An application asks its backend for the rows; this one has only what the browser has kept. */
async function refetch() {
  $('refetch').disabled = true;
  await parley.catchup(load).then(() => ($('gap').hidden = true), problem);
  $('refetch').disabled = false;
}

function problem(error) {
  note('That did not work.', error.message, false);
}

function note(text, more, refetchable) {
  $('gap-text').textContent = text;
  $('gap-more').textContent = more;
  $('refetch').textContent = refetchable ? 'Refetch' : 'Dismiss';
  $('refetch').onclick = refetchable ? refetch : () => ($('gap').hidden = true);
  $('gap').hidden = false;
}

/* --------------------------------------------------------------------------------------------- the panel
 * A column beside the page where there is room, else a sheet over it. */

const roomy = matchMedia('(min-width: 60rem)');

function showPanel(yes) {
  $('room').classList.toggle('with-panel', yes);
  $('status').setAttribute('aria-expanded', yes);
}

$('status').addEventListener('click', () => showPanel(!$('room').classList.contains('with-panel')));
$('veil').addEventListener('click', () => showPanel(false));
addEventListener('keydown', ({ key }) => key === 'Escape' && !roomy.matches && showPanel(false));
roomy.addEventListener('change', () => showPanel(roomy.matches));
showPanel(roomy.matches);
