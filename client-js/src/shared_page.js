/* The page that a tab is, as its parts are told of it. */

/* on: leave(persisted) it goes away, and may come back as it is     freeze() it will not come to anything for a while
 *     back() from either                                            shown() somebody looks at it
 * Returns what ends the watch. */
export function watchPage(page, on) {
  const document = page?.document;
  const listeners = [
    [page, 'pagehide', ({ persisted }) => on.leave(persisted)],
    [page, 'pageshow', () => on.back()],
    [document, 'freeze', () => on.freeze()],
    [document, 'resume', () => on.back()],
    [document, 'visibilitychange', () => document.visibilityState === 'visible' && on.shown()],
  ];
  for (const [target, type, listener] of listeners) target?.addEventListener(type, listener);
  return () => {
    for (const [target, type, listener] of listeners) target?.removeEventListener(type, listener);
  };
}

/* For this tab's client: a page that goes away and comes back when it is told so. */
export class Page {
  #listeners = new Map();

  addEventListener(type, listener) {
    this.#listeners.set(type, listener);
  }

  removeEventListener(type) {
    this.#listeners.delete(type);
  }

  dispatchEvent(type, event) {
    this.#listeners.get(type)?.({ type, ...event });
  }
}

/* The page as the connection hears of it: whether it ends when the page goes away is not the connection's to decide. */
export function awake(page) {
  if (!page) return null;
  const unlessGoing = (then) => (type, listener) => /^page(show|hide)$/.test(type) || then(type, listener);
  return {
    document: page.document,
    navigator: page.navigator,
    addEventListener: unlessGoing((type, listener) => page.addEventListener(type, listener)),
    removeEventListener: unlessGoing((type, listener) => page.removeEventListener(type, listener)),
  };
}
