/* Named timers: setting one again replaces it. */
const LONGEST_MS = 2 ** 31 - 1;

export function createTimers() {
  const running = new Map();

  /* Without names: all. */
  function cancel(...names) {
    for (const name of names.length ? names : running.keys()) {
      clearTimeout(running.get(name));
      running.delete(name);
    }
  }

  return {
    has: (name) => running.has(name),
    set(name, ms, fn) {
      cancel(name);
      running.set(name, setTimeout(() => (running.delete(name), fn()), Math.min(ms, LONGEST_MS)));
    },
    cancel,
  };
}
