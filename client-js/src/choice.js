/* Which transport is to be used: what the application and the platform allow, what the server offers, and what the
 * network lets through. Long-poll is never found to be blocked: where it does not get through, nothing does. */

/* Sockets in a row that failed while plain HTTP worked, until WebSocket counts as blocked. */
const BLOCKED_AFTER = 3;

/* onProbe(): a blocked WebSocket is worth a try again. */
export function createChoice(allowed, { probeMs, probeMaxMs }, random, onProbe) {
  let failures = 0;
  let probes = 0;
  let timer;

  function trust(ofFailures = 0) {
    clearTimeout(timer);
    choice.blocked = false;
    failures = ofFailures;
  }

  function block() {
    trust();
    choice.blocked = true;
    const interval = Math.min(probeMaxMs, probeMs * 2 ** probes++);
    timer = setTimeout(() => {
      choice.suspect();
      onProbe();
    }, interval * (0.5 + random() / 2));
  }

  const choice = {
    blocked: false,
    forbidden: new Set(),
    offer: undefined, // what the server offers, in its order, once it has said so

    get usable() {
      return (choice.offer ?? allowed).filter((name) => allowed.includes(name) && !choice.forbidden.has(name));
    },

    get best() {
      const { usable } = choice;
      return usable.find((name) => name !== 'websocket' || !choice.blocked) ?? usable[0];
    },

    block,
    trust: () => trust(),

    /* A socket failed where HTTP works. */
    failed: () => ++failures < BLOCKED_AFTER || block(),

    /* Worth a try, and blocked again at the first failure. */
    suspect: () => trust(BLOCKED_AFTER - 1),

    /* A socket has lasted. */
    proven() {
      trust();
      probes = 0;
    },
  };
  return choice;
}
