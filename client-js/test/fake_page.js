/* A page that tells what a browser's would. */
export function fakePage() {
  const page = new EventTarget();
  page.document = Object.assign(new EventTarget(), { visibilityState: 'visible' });
  page.navigator = { onLine: true };
  page.say = (type, target = page) => target.dispatchEvent(new Event(type));
  return page;
}
