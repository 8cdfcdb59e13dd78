/* How long a connection may be idle. Proxies cut idle ones at a fixed age that nobody announces: two links in a row that
 * died after nearly the same silence have met one, and the next ones stay below it.
 *
 *   pingMs   how often a socket must say something      holdS   how many seconds a poll is asked to be held */

/* Of two silences that are alike, one is longer by so much at most: proxies look now and then, and pages notice late. */
const LIKENESS = 0.15;
const LATE_MS = 500;
const MARGIN = 0.75;

export function createRhythm({ latencyMs, holdS, idleMs: leastMs }) {
  let died;
  const rhythm = {
    /* Another network, other proxies. */
    forget() {
      died = {};
      rhythm.pingMs = latencyMs;
      rhythm.holdS = holdS;
    },

    /* A link that was cut after so long a silence. One cut within a moment was not idle. */
    died(transport, idleMs) {
      if (idleMs < leastMs) return;
      const last = died[transport];
      died[transport] = idleMs;
      if (!(Math.abs(idleMs - last) < LATE_MS + LIKENESS * last)) return;
      const safeMs = MARGIN * Math.min(idleMs, last);
      if (transport === 'websocket') rhythm.pingMs = Math.min(rhythm.pingMs, safeMs);
      else rhythm.holdS = Math.min(rhythm.holdS, Math.max(1, Math.floor(safeMs / 1000)));
    },
  };
  rhythm.forget();
  return rhythm;
}
