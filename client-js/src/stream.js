/* A client's events as an async iterator; `client` is anything with the interface of ParleyClient. It listens from
 * the first next() on, which is when a `for await` begins. */
import { ParleyError, undoable } from './dispatch.js';

const MOST = 1000;

export async function* stream(client, { community, article, signal } = {}) {
  const buffer = [];
  let end = client.state === 'closed' && {}; // { error? } once no more will come
  let wake;
  const tell = (what) => {
    end ||= what;
    wake?.();
  };
  const push = (event) => {
    if (buffer.push(event) > MOST) tell({ error: new ParleyError('too_slow') });
    else tell();
  };
  const undos = [
    community === undefined ? client.on('event', push) : client.subscribe({ community, article }, push),
    client.on('state', ({ state, error }) => state === 'closed' && tell({ error })),
    undoable(() => tell({}), signal),
  ];
  try {
    for (;;) {
      if (end?.error) throw end.error;
      if (buffer.length) yield buffer.shift();
      else if (end) return;
      else await new Promise((resolve) => (wake = resolve));
    }
  } finally {
    for (const undo of undos) undo();
  }
}
