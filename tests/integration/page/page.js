// A page that listens and keeps its log for the test (numbered.mjs says what is in a log). What it is to do comes in
// its URL: community, from, transports, codec, server, storage. `jump` moves the page's clock, as waking from sleep does.
import { Parley } from '/client/index.js';

const wish = new URLSearchParams(location.search);
const server = wish.get('server') ?? location.origin;

let jumped = 0;
globalThis.jump = (ms) => { jumped += ms; };
for (const clock of [Date, performance]) {
  const now = clock.now.bind(clock);
  clock.now = () => now() + jumped;
}

async function getToken() {
  const response = await fetch(`/token?community=${wish.get('community')}`, { method: 'POST' });
  return response.text();
}

const codec = wish.get('codec') === 'msgpack' ? (await import('/client/msgpack.js')).msgpack : undefined;
const parley = new Parley({
  url: server,
  getToken,
  codec,
  transports: wish.get('transports')?.split(','),
  lastEventId: sessionStorage.length ? undefined : Number(wish.get('from')),
  storage: wish.has('storage') ? sessionStorage : undefined,
});

globalThis.parley = parley;
globalThis.log = JSON.parse(sessionStorage.getItem('log')) ?? [];
if (wish.has('storage')) addEventListener('pagehide', () => sessionStorage.setItem('log', JSON.stringify(log)));
parley.on('event', ({ event_id: id, data }) => log.push(['event', data.n, id]));
parley.on('gap', ({ reason, lastEventId }) => log.push(['gap', reason, lastEventId]));
parley.on('state', ({ state, transport }) => log.push(['state', state, transport]));
parley.on('error', (error) => log.push(['error', error.code, error.message]));
for (const name of ['pagehide', 'pageshow']) addEventListener(name, ({ persisted }) => persisted && log.push(['page', name]));
for (const name of ['offline', 'online']) addEventListener(name, () => log.push(['page', name]));
for (const name of ['freeze', 'resume']) document.addEventListener(name, () => log.push(['page', name]));
parley.connect();
