/* Discussions and comments as elements. Nothing here knows of the network. */

const FRESH_MS = 2600; // how long something new is highlighted; as in demo.css
const SURE_MS = 4000; // how long a deletion waits for its second click

const template = (name) => document.getElementById(`${name}-template`).content.firstElementChild;

export class View {
  #root;
  #me;
  #floor;
  #does;
  #rows = new Map(); // 'comment/12' -> row
  #elements = new Map();

  /* floor: the discussion that is always there. does: { comment(discussion, text), save(row, text), remove(row) }, whose
   * promises tell when the forms may close. */
  constructor({ root, me, floor, does }) {
    this.#root = root;
    this.#me = me;
    this.#floor = floor;
    this.#does = does;
    this.show(floor);
  }

  get discussions() {
    return [...this.#rows.values()].filter(({ kind }) => kind === 'discussion');
  }

  find({ kind, id }) {
    return this.#rows.get(`${kind}/${id}`);
  }

  element({ kind, id }) {
    return this.#elements.get(`${kind}/${id}`);
  }

  /* Adds an item at its place, or changes the one that is there. */
  show(row, { fresh = false } = {}) {
    const key = `${row.kind}/${row.id}`;
    const element = this.#elements.get(key) ?? this.#create(row);
    this.#rows.set(key, row);
    this.#elements.set(key, element);
    this.#fill(element, row);
    if (!element.isConnected) this.#place(element, row);
    if (row.kind === 'comment') this.#count(row.discussion);
    if (fresh) this.highlight(row);
  }

  remove({ kind, id }) {
    const row = this.find({ kind, id });
    if (!row) return;
    if (kind === 'discussion') for (const comment of this.#comments(id)) this.remove(comment);
    this.#elements.get(`${kind}/${id}`).remove();
    this.#elements.delete(`${kind}/${id}`);
    this.#rows.delete(`${kind}/${id}`);
    if (kind === 'comment') this.#count(row.discussion);
  }

  clear() {
    for (const row of [...this.#rows.values()]) if (row !== this.#floor) this.remove(row);
  }

  highlight(row) {
    const element = this.element(row);
    element.classList.remove('fresh');
    void element.offsetWidth; // starts the animation anew
    element.classList.add('fresh');
    clearTimeout(element.calm);
    element.calm = setTimeout(() => element.classList.remove('fresh'), FRESH_MS);
  }

  isOnScreen(row) {
    const { top, bottom } = this.element(row).getBoundingClientRect();
    return bottom > 80 && top < innerHeight - 24;
  }

  reveal(row) {
    const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
    const element = this.element(row);
    element?.scrollIntoView({ block: row.kind === 'comment' ? 'center' : 'start', behavior: calm ? 'auto' : 'smooth' });
    element?.focus({ preventScroll: true });
    if (element) this.highlight(row);
  }

  /* ------------------------------------------------------------------------------------------- elements */

  #create(row) {
    const element = template(row.kind).cloneNode(true);
    element.tabIndex = -1;
    element.querySelector('.edit').addEventListener('click', () => this.#edit(element, this.find(row)));
    element.querySelector('.delete').addEventListener('click', ({ currentTarget }) => this.#delete(currentTarget, this.find(row)));
    if (row.kind === 'discussion') this.#prepare(element, row);
    return element;
  }

  #prepare(element, row) {
    const form = element.querySelector('.composer');
    const text = form.querySelector('textarea');
    if (row === this.#floor) {
      Object.assign(form, { id: 'composer' });
      Object.assign(text, { id: 'text' });
      Object.assign(form.querySelector('button'), { id: 'send' });
      Object.assign(element.querySelector('.comments'), { id: 'comments' });
    }
    growing(text);
    sending(form, () => this.#does.comment(this.find(row), text.value.trim()).then(() => form.reset()));
  }

  #fill(element, row) {
    const own = (selector) => element.querySelector(selector); // a discussion's own parts come before its comments
    element.dataset.eventId = row.eventId;
    own('.avatar').textContent = [...row.author][0]?.toUpperCase() ?? '?';
    own('.avatar').dataset.hue = hueOf(row.author);
    own('.author').textContent = row.author;
    own('.text').textContent = row.text;
    own('.edited').hidden = !row.edited;
    own('.actions').hidden = row.author !== this.#me.name;
    element.classList.toggle('mine', row.author === this.#me.name);
    element.classList.toggle('floor', row === this.#floor);
    showTime(own('time'), row.at);
    if (row.kind === 'comment') return;
    own('.title').textContent = row.title;
    own('.composer textarea').setAttribute('aria-label', `Your comment on ${row.title}`);
    this.#count(row.id, element);
  }

  /* The open floor first, then the newest; comments as they came. */
  #place(element, row) {
    const comment = row.kind === 'comment';
    const list = comment ? this.element({ kind: 'discussion', id: row.discussion }).querySelector('.comments') : this.#root;
    const after = ({ dataset: { eventId: id }, classList }) => (comment ? Number(id) > row.eventId : !classList.contains('floor') && Number(id) < row.eventId);
    list.insertBefore(element, [...list.children].find(after) ?? null);
  }

  #count(discussion, element = this.element({ kind: 'discussion', id: discussion })) {
    if (!element) return;
    const empty = element.querySelector('.empty');
    empty.hidden = element.querySelector('.comments').children.length > 0;
    empty.textContent = discussion === this.#floor.id ? 'Nothing has been said yet. The first comment is yours.' : 'No comments yet.';
  }

  *#comments(discussion) {
    for (const row of [...this.#rows.values()]) if (row.kind === 'comment' && row.discussion === discussion) yield row;
  }

  /* ---------------------------------------------------------------------------------- edit and delete */

  #edit(element, row) {
    const text = element.querySelector('.text');
    if (text.hidden) return;
    const form = template('editor').cloneNode(true);
    const field = form.querySelector('textarea');
    const close = () => {
      form.remove();
      text.hidden = false;
      element.querySelector('.edit').focus();
    };
    field.value = row.text;
    field.setAttribute('aria-label', 'Your words');
    form.querySelector('.cancel').addEventListener('click', close);
    form.addEventListener('keydown', ({ key }) => key === 'Escape' && close());
    sending(form, () => this.#does.save(this.find(row), field.value.trim()).then(close));
    text.hidden = true;
    text.after(form);
    field.focus();
  }

  #delete(button, row) {
    if (button.dataset.sure) return void this.#does.remove(row);
    button.dataset.sure = 'asked';
    button.textContent = 'Really delete?';
    setTimeout(() => {
      delete button.dataset.sure;
      button.textContent = 'Delete';
    }, SURE_MS);
  }
}

/* ---------------------------------------------------------------------------------------------- helpers */

/* Enter sends, Shift+Enter breaks the line; nothing is sent twice. `send` may reject: what was written stays. */
export function sending(form, send) {
  const button = form.querySelector('[type=submit]');
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (button.disabled || [...form.elements].some((field) => field.required && !field.value.trim())) return;
    button.disabled = true;
    await send().catch(() => {});
    button.disabled = false;
  });
  form.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.target.tagName !== 'TEXTAREA') return;
    event.preventDefault();
    form.requestSubmit();
  });
}

function growing(text) {
  const grow = () => (text.rows = Math.min(6, Math.max(1, text.value.split('\n').length)));
  text.addEventListener('input', grow);
  text.form?.addEventListener('reset', () => setTimeout(grow));
}

export function hueOf(name) {
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + letter.codePointAt(0)) % 997;
  return sum % 6;
}

function showTime(element, at) {
  const moment = new Date(at);
  const known = at && !Number.isNaN(moment.valueOf());
  const today = known && moment.toDateString() === new Date().toDateString();
  element.textContent = known ? moment.toLocaleString([], { ...(!today && { day: 'numeric', month: 'short' }), hour: '2-digit', minute: '2-digit' }) : '';
  if (known) element.dateTime = moment.toISOString();
}
