/* Full jitter: each delay is drawn evenly from 0 to a ceiling that doubles up to a cap. Thousands of clients
 * cut off at one instant come back spread over the whole window, not in waves. */
export class Backoff {
  #attempt = 0;

  constructor({ baseMs, capMs, random = Math.random }) {
    this.baseMs = baseMs;
    this.capMs = capMs;
    this.random = random;
  }

  next() {
    const ceiling = Math.min(this.capMs, this.baseMs * 2 ** this.#attempt++);
    return Math.round(this.random() * ceiling);
  }

  reset() {
    this.#attempt = 0;
  }
}
