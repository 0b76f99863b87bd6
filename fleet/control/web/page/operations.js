// The operator's actions: asked for, confirmed, sent with the token, and their result shown.

import { cloned, setAttribute, setLook, setText, slotsOf } from './dom.js';
import { counted, whole } from './format.js';

const TOKEN = 'fleet-token';
const NOTES = slotsOf(document.getElementById('operations')).notes;

/** The texts of each action's confirmation; `ask` names the field that the operator fills in. */
const ACTIONS = {
  pause: ({ provider }) => ({
    order: { action: 'pause', provider },
    title: `Pause ${provider}?`,
    text: `No call of ${provider} is dispatched any more, on all machines, until somebody resumes it. Calls under way end as usual; pipelines wait, and lose nothing.`,
    yes: `Pause ${provider}`,
    doing: `Pausing ${provider}`,
    ask: 'why',
  }),
  resume: ({ provider }) => ({
    order: { action: 'resume', provider },
    title: `Resume ${provider}?`,
    text: `Calls of ${provider} are dispatched again, on all machines, within its limits. If the cause still holds, such as spent credit or a rejected key, it is parked again.`,
    yes: `Resume ${provider}`,
    doing: `Resuming ${provider}`,
    ask: null,
  }),
  scale: ({ program, count }) => ({
    order: { action: 'scale', program },
    title: `Scale ${program}`,
    text: `${program} has ${counted(Number(count), 'process').replace('processs', 'processes')} on this host. New ones start beside the others; those too many end their calls first, which may take minutes. The number stays after a restart.`,
    yes: `Scale ${program}`,
    doing: `Scaling ${program}`,
    ask: 'count',
    value: count,
  }),
  roll: ({ program }) => ({
    order: { action: 'roll', program: program ?? null },
    title: `Roll ${program ?? 'all programs'}?`,
    text: `Every process of ${program ?? 'every program'} on this host is replaced by a new one, one at a time: each ends its calls first, and no queue is without a poller. This may take minutes.${program ? '' : ' This page will be away for a moment while its own process is replaced.'}`,
    yes: `Roll ${program ?? 'all'}`,
    doing: `Rolling ${program ?? 'all programs'}`,
    ask: null,
  }),
};

/** Handles clicks on every button with data-act, also on those added later. */
export function offerOperations() {
  document.addEventListener('click', (event) => {
    const button = event.target.closest('button[data-act]');
    if (button && button.getAttribute('aria-disabled') !== 'true') operate(ACTIONS[button.dataset.act](button.dataset), button);
  });
}

async function operate(action, button) {
  const filled = await confirmed(action);
  if (filled === null) return;
  const order = { ...action.order, ...filled };
  const note = new Note(`${action.doing}${'count' in filled ? ` to ${filled.count}` : ''}`);
  // Not `disabled`: that would take the focus from the pressed button.
  button.setAttribute('aria-disabled', 'true');
  note.end(await send(order));
  button.removeAttribute('aria-disabled');
}

/** @returns {Promise<?object>} the filled-in fields; null: cancelled */
async function confirmed({ title, text, yes, ask, value }) {
  const dialog = document.getElementById('confirm');
  const slots = slotsOf(dialog);
  for (const [name, words] of Object.entries({ title, text, yes })) setText(slots[name], words);
  for (const [name, field] of Object.entries({ why: slots.whyField, count: slots.countField })) {
    field.hidden = ask !== name;
    const input = field.querySelector('input');
    input.disabled = ask !== name;
    input.value = ask === name ? value ?? '' : '';
  }
  const form = await asked(dialog);
  if (form === null || ask === null) return form === null ? null : {};
  if (ask === 'count') return { count: Number(form.get('count')) };
  return { why: form.get('why').trim() || 'paused by the operator' };
}

/** @returns {Promise<?FormData>} the dialog's input; null: it was dismissed */
function asked(dialog) {
  const form = dialog.querySelector('form');
  return new Promise((resolve) => {
    let filled = null;
    form.onsubmit = (event) => {
      event.preventDefault();
      filled = new FormData(form);
      dialog.close();
    };
    form.querySelector('[data-cancel]').onclick = () => dialog.close();
    dialog.onclose = () => resolve(filled);
    dialog.showModal();
  });
}

/** @returns {Promise<?string>} the token, asked for if it is not known */
async function tokenFor(words) {
  const kept = sessionStorage.getItem(TOKEN);
  if (kept !== null) return kept;
  const dialog = document.getElementById('token');
  dialog.querySelector('input').value = '';
  setText(slotsOf(dialog).text, words);
  const form = await asked(dialog);
  // The token must not remain in the page after it was used.
  dialog.querySelector('input').value = '';
  if (form === null) return null;
  sessionStorage.setItem(TOKEN, form.get('token'));
  return form.get('token');
}

/** @returns {Promise<{ok: boolean, said: string}>} */
async function send(order) {
  let words = 'The control process asks for it before it does anything. This tab keeps it until it is closed.';
  for (;;) {
    const token = await tokenFor(words);
    if (token === null) return { ok: false, said: 'not done: no token was given' };
    const { status, said } = await post(order, token);
    if (status !== 401) return { ok: status === 200, said };
    sessionStorage.removeItem(TOKEN);
    words = 'That token was refused. Nothing was done. Try another one.';
  }
}

async function post(order, token) {
  // A header cannot contain such characters; no token has them.
  if (!/^[\x21-\x7e]+$/.test(token)) return { status: 401, said: '' };
  try {
    const answer = await fetch('/api/act', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${token}` },
      body: JSON.stringify(order),
    });
    const told = await answer.json();
    return { status: answer.status, said: told.said ?? told.error };
  } catch {
    return { status: 0, said: 'the answer was lost; whether it was done, the page will show' };
  }
}

/** The line of one operation, from its start until it is dismissed. */
class Note {
  #started = Date.now();
  #timer = setInterval(() => this.#tick(), 1000);

  constructor(doing) {
    Object.assign(this, cloned('operation-note'), { doing });
    setText(this.slots.said, `${doing} …`);
    setLook(this.root, { tone: 'unknown', shape: 'waiting' });
    setAttribute(this.root, 'data-standing', 'going');
    this.slots.dismiss.addEventListener('click', () => this.#dismiss());
    NOTES.prepend(this.root);
  }

  end({ ok, said }) {
    clearInterval(this.#timer);
    setText(this.slots.said, `${this.doing}: ${said}`);
    setText(this.slots.since, '');
    setLook(this.root, ok ? { tone: 'good', shape: 'good' } : { tone: 'bad', shape: 'bad' });
    setAttribute(this.root, 'data-standing', ok ? 'done' : 'failed');
    this.slots.dismiss.hidden = false;
  }

  #dismiss() {
    this.root.remove();
    const next = NOTES.querySelector('button:not([hidden])') ?? document.getElementById('main');
    next.focus({ preventScroll: true });
  }

  // Visible but not announced: a screen reader would speak every second.
  #tick() {
    setText(this.slots.since, `goes on, since ${whole((Date.now() - this.#started) / 1000)}`);
  }
}
