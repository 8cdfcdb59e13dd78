/* What a page tells of itself, where there is one, and what the clock tells everywhere: a machine that slept, or a tab
 * whose timers were frozen, finds that more time has passed than it had asked for.
 *
 *   on   wake()               look whether the link is alive
 *        online()             another network, perhaps
 *        pagehide()           the page goes away, and may come back as it is
 *        pageshow()           it has come back, or is shown first
 *
 * Returns what ends the watch. */
export function watchPage(page, tickMs, on) {
  const document = page?.document;
  const heard = ({ type }) => {
    if (type !== 'visibilitychange' || document.visibilityState !== 'hidden') (on[type] ?? on.wake)();
  };
  const listen = (verb) => {
    for (const type of ['online', 'offline', 'pageshow', 'pagehide']) page?.[verb](type, heard);
    for (const type of ['resume', 'visibilitychange']) document?.[verb](type, heard);
  };
  listen('addEventListener');

  let last = Date.now();
  const clock = setInterval(() => {
    const passed = Date.now() - last;
    last += passed;
    if (passed > 2 * tickMs) on.wake();
  }, tickMs);

  return () => {
    clearInterval(clock);
    listen('removeEventListener');
  };
}
