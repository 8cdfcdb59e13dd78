/* Full jitter: each delay is drawn evenly from 0 to a ceiling that doubles up to a cap. Thousands of clients
 * cut off at one instant come back spread over the whole window, not in waves. */
export function createBackoff(baseMs, capMs, random) {
  let attempt = 0;
  return {
    next: () => random() * Math.min(capMs, baseMs * 2 ** attempt++),
    reset() {
      attempt = 0;
    },
  };
}
