/* A discussion on parley-client: one page, one queue, one community. URL parameters for impatient people and tests:
 * ?name=Ada&community=42 joins at once, &transport=longpoll forbids WebSocket from the start. */
import { Parley } from '/client/index.js';

const ARTICLE = 789;
const KEPT = 200; // comments remembered across a reload
const FRESH_MS = 2400; // how long a new comment is highlighted; as in demo.css

const $ = (id) => document.getElementById(id);
const parameters = new URLSearchParams(location.search);

const STATES = {
  idle: 'Not connected',
  connecting: 'Connecting',
  connected: 'Live',
  waiting: 'Reconnecting',
  closed: 'Closed',
};
const TRANSPORTS = { websocket: 'WebSocket', longpoll: 'Long-poll' };
const GAPS = {
  epoch: 'The server started anew.',
  trimmed: 'You were away for longer than the server remembers.',
};

let me;
let client;
let comments = new Map(); // event id -> comment

/* --------------------------------------------------------------------------------------------- joining */

$('join-form').addEventListener('submit', (event) => {
  event.preventDefault();
  join($('name').value.trim(), Number($('community').value));
});

$('name').value = parameters.get('name') ?? '';
if (parameters.has('community')) $('community').value = parameters.get('community');
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
  document.title = `Community ${community} · Parley`;
  $('join').hidden = true;
  $('room').hidden = false;
  connect();
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

function connect() {
  const kept = recall();
  client = new Parley({ url: location.origin, getToken, lastEventId: kept.lastEventId });
  for (const [id, comment] of kept.comments) show(id, comment);
  client.on('state', showState);
  client.on('event', (event) => {
    showEvent(event);
    remember();
  });
  client.on('gap', ({ reason }) => notify(`${GAPS[reason] ?? `Some events were missed (${reason}).`} Comments may be missing above.`));
  client.on('error', (error) => error.code !== 'get_token' && notify(error.message));
  client.subscribe({ community: me.community }, () => {});
  if (parameters.get('transport') === 'longpoll') forbid(true);
  client.connect();
  addEventListener('pagehide', ({ persisted }) => client.close({ keepQueue: persisted }));
  addEventListener('pageshow', ({ persisted }) => persisted && client.connect());
}

function showState({ state, transport, retryInMs }) {
  $('status').dataset.state = state;
  $('status').dataset.transport = transport ?? '';
  $('status-state').textContent = retryInMs >= 2000 ? `${STATES[state]} in ${Math.round(retryInMs / 1000)} s` : STATES[state];
  $('status-transport').textContent = TRANSPORTS[transport] ?? '';
  $('cut').disabled = state !== 'connected';
}

$('cut').addEventListener('click', () => client.cut());
$('forbid').addEventListener('click', () => forbid($('forbid').getAttribute('aria-pressed') === 'false'));

function forbid(yes) {
  $('forbid').setAttribute('aria-pressed', yes);
  if (yes) client.forbid('websocket');
  else client.allow('websocket');
  if (client.state === 'closed') client.connect();
}

/* -------------------------------------------------------------------------------------------- comments */

function showEvent({ event_id: id, type, timestamp, data }) {
  const comment = data?.comment;
  const known = comment && [...comments].find(([, { key }]) => key !== undefined && key === comment.id);
  if (type === 'deleted_comment') return known && remove(known[0]);
  if (type === 'updated_comment' && known) return show(known[0], { ...known[1], text: String(comment.text) }, true);
  show(id, {
    key: comment?.id,
    author: String(comment?.author ?? type),
    text: String(comment?.text ?? JSON.stringify(data)),
    at: comment?.created_at ?? timestamp,
  }, true);
}

/* Adds a comment at its place by id, or changes the one that has it. */
function show(id, comment, fresh = false) {
  const follow = atEnd();
  let item = $('comments').querySelector(`[data-event-id="${id}"]`);
  if (!item) {
    item = $('comment-template').content.firstElementChild.cloneNode(true);
    item.dataset.eventId = id;
    const next = [...$('comments').children].find((other) => Number(other.dataset.eventId) > id);
    $('comments').insertBefore(item, next ?? null);
  }
  comments.set(id, comment);
  fill(item, comment);
  $('empty').hidden = true;
  if (fresh) highlight(item);
  if (follow) scrollTo({ top: document.body.scrollHeight });
}

function fill(item, { author, text, at }) {
  const moment = new Date(at);
  const readable = Number.isNaN(moment.valueOf()) ? '' : moment.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  item.classList.toggle('mine', author === me.name);
  item.querySelector('.avatar').textContent = [...author][0]?.toUpperCase() ?? '?';
  item.querySelector('.avatar').dataset.hue = hueOf(author);
  item.querySelector('.author').textContent = author;
  item.querySelector('time').textContent = readable;
  item.querySelector('time').dateTime = readable && moment.toISOString();
  item.querySelector('.text').textContent = text;
}

function remove(id) {
  comments.delete(id);
  $('comments').querySelector(`[data-event-id="${id}"]`)?.remove();
  $('empty').hidden = comments.size > 0;
}

function highlight(item) {
  item.classList.add('fresh');
  setTimeout(() => item.classList.remove('fresh'), FRESH_MS);
}

function hueOf(name) {
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + letter.codePointAt(0)) % 997;
  return sum % 6;
}

function atEnd() {
  return innerHeight + scrollY >= document.body.scrollHeight - 120;
}

/* ------------------------------------------------------------------------------------------ the composer */

$('composer').addEventListener('submit', async (event) => {
  event.preventDefault();
  const text = $('text').value.trim();
  if (!text) return;
  const comment = { id: Date.now(), author: me.name, text, created_at: new Date().toISOString() };
  $('send').disabled = true;
  try {
    const data = { article_id: ARTICLE, community_id: me.community, discussion_id: 456, comment };
    const { event_id: id } = await client.publish({ type: 'new_comment', data });
    /* The server does not echo it to the queue that sent it. */
    show(id, { key: comment.id, author: me.name, text, at: comment.created_at }, true);
    remember();
    $('text').value = '';
    grow();
  } catch (error) {
    notify(`Not sent: ${error.message}`);
  } finally {
    $('send').disabled = false;
    $('text').focus();
  }
});

$('text').addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $('composer').requestSubmit();
});
$('text').addEventListener('input', grow);

function grow() {
  $('text').rows = Math.min(5, Math.max(1, $('text').value.split('\n').length));
}

/* ---------------------------------------------------------------------------------------------- notices */

function notify(text) {
  $('notice-text').textContent = text;
  $('notice').hidden = false;
}

$('notice-close').addEventListener('click', () => ($('notice').hidden = true));

/* --------------------------------------------------------------------------------------- across a reload
 * The comments and the position they belong to, written together: what came meanwhile follows, or is a gap. */

function storeKey() {
  return `parley-demo:${me.community}:${me.id}`;
}

function remember() {
  const newest = [...comments].sort(([a], [b]) => a - b).slice(-KEPT);
  try {
    localStorage.setItem(storeKey(), JSON.stringify({ lastEventId: client.lastEventId, comments: newest }));
  } catch {
    /* Storage is off or full: a reload begins with an empty page. */
  }
}

function recall() {
  try {
    return JSON.parse(localStorage.getItem(storeKey())) ?? { comments: [] };
  } catch {
    return { comments: [] };
  }
}
