/* Ways to say that something is new: a toast, a desktop notification, a tone, and words for screen readers. */
import { hueOf } from './view.js';

const TOAST_MS = 7000;
const TOASTS = 3;

const $ = (id) => document.getElementById(id);

/* For what the element shows; go() is called on a click. Whoever gets there by scrolling needs no toast any more. */
export function toast({ author, title, text, element: about, go }) {
  const element = $('toast-template').content.firstElementChild.cloneNode(true);
  element.querySelector('.avatar').textContent = [...author][0]?.toUpperCase() ?? '?';
  element.querySelector('.avatar').dataset.hue = hueOf(author);
  element.querySelector('strong').textContent = title;
  element.querySelector('.what span').textContent = text;
  const seen = new IntersectionObserver((entries) => entries.some(({ isIntersecting }) => isIntersecting) && close());
  const close = () => {
    seen.disconnect();
    element.remove();
  };
  seen.observe(about);
  element.querySelector('.go').addEventListener('click', () => (close(), go()));
  element.querySelector('.dismiss').addEventListener('click', close);
  $('toasts').append(element);
  while ($('toasts').children.length > TOASTS) $('toasts').firstElementChild.remove();
  fade(element, close);
}

/* Whoever points at it is still reading. */
function fade(element, close) {
  let timer = setTimeout(close, TOAST_MS);
  element.addEventListener('pointerenter', () => clearTimeout(timer));
  element.addEventListener('focusin', () => clearTimeout(timer));
  element.addEventListener('pointerleave', () => (timer = setTimeout(close, TOAST_MS / 2)));
}

export function announce(text) {
  $('announce').textContent = text;
}

/* ------------------------------------------------------------------------------- desktop notifications */

const desktop = $('desktop');
const NOTES = { denied: 'refused in the browser’s settings', missing: 'not known to this browser', default: 'while this tab is hidden', granted: 'while this tab is hidden' };
const permission = () => globalThis.Notification?.permission ?? 'missing';

let wanted = localStorage.getItem('parley-demo-desktop') === 'yes';

function showDesktop() {
  desktop.setAttribute('aria-checked', wanted && permission() === 'granted');
  desktop.disabled = ['denied', 'missing'].includes(permission());
  $('desktop-note').textContent = NOTES[permission()];
}

desktop.addEventListener('click', async () => {
  wanted = desktop.getAttribute('aria-checked') === 'false';
  if (wanted && permission() === 'default') await Notification.requestPermission();
  localStorage.setItem('parley-demo-desktop', wanted ? 'yes' : 'no');
  showDesktop();
});
showDesktop();

/* The tag makes one of what several tabs say. */
export function notify({ title, text, tag, go }) {
  if (!document.hidden || !wanted || permission() !== 'granted') return;
  const notification = new Notification(title, { body: text, tag, icon: '/demo/icon.svg' });
  notification.onclick = () => {
    focus();
    notification.close();
    go();
  };
}

/* ------------------------------------------------------------------------------------------------ sound */

let audio;

$('sound').addEventListener('click', () => {
  const on = $('sound').getAttribute('aria-checked') === 'false';
  $('sound').setAttribute('aria-checked', on);
  audio ??= new AudioContext();
  if (on) tone();
});

/* Two soft notes, a fifth apart. */
export function tone() {
  if ($('sound').getAttribute('aria-checked') === 'false') return;
  [523.25, 783.99].forEach((frequency, n) => {
    const [at, oscillator, gain] = [audio.currentTime + n * 0.09, audio.createOscillator(), audio.createGain()];
    oscillator.frequency.value = frequency;
    gain.gain.setValueAtTime(0, at);
    gain.gain.linearRampToValueAtTime(0.12, at + 0.015);
    gain.gain.exponentialRampToValueAtTime(0.0001, at + 0.3);
    oscillator.connect(gain).connect(audio.destination);
    oscillator.start(at);
    oscillator.stop(at + 0.32);
  });
}
