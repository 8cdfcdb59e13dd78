/* What the application supplies by a function of its own, a token or a queue: asked for when needed, never twice at
 * the same time, and kept in `value` until it is found to be no longer good. */
import { ParleyError } from './dispatch.js';

/* failed, none: the codes of the errors when fn rejects, and when it has nothing to give. */
export function createSource(fn, failed, none) {
  let pending;
  let asker; // the signal of the life that asked last

  async function ask(signal) {
    let value;
    try {
      value = await fn({ signal });
    } catch (cause) {
      throw new ParleyError(failed, '', { cause });
    }
    if (!value) throw new ParleyError(none, '', { final: true });
    return (source.value = value);
  }

  const source = {
    value: undefined,
    get: (signal) => source.value ?? source.renew(signal),
    renew(signal) {
      /* What was begun in an earlier life is for nobody any more. */
      if (asker !== signal) pending = undefined;
      asker = signal;
      return (pending ??= ask(signal).finally(() => asker === signal && (pending = undefined)));
    },
    /* The value is no longer good. */
    drop() {
      source.value = undefined;
    },
  };
  return source;
}

/* Milliseconds for which a JWT is good by this machine's clock; undefined when it cannot be read. */
export function lifetimeMs(token) {
  try {
    return JSON.parse(atob(token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/'))).exp * 1000 - Date.now();
  } catch {}
}
