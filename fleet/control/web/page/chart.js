// A small chart of one series over the last hour, or since the first observation if that is shorter, with its
// figures as text too.

import { cloned, setAttribute, setText } from './dom.js';
import { count, hour } from './format.js';

const HEIGHT = 24;
const WIDTH = 60;
// A single failure must be visible beside a thousand answers.
const LEAST_HEIGHT = 2;

/**
 * One chart: bars for events (`kind` "sum"), a stepped area for a level (`kind` "level").
 *
 * `least` is the minimum value of the top edge, so that one event does not look like a flood; `say` formats a
 * value.
 */
export class Chart {
  #slots;
  #values = [];
  #steps = { step_seconds: 60, until: 0 };

  constructor({ label, tone, kind = 'sum', least = 5, say = count }) {
    const { root, slots } = cloned('chart');
    Object.assign(this, { root, label, kind, least, say });
    this.#slots = slots;
    root.dataset.tone = tone;
    slots.label.textContent = label;
    slots.picture.addEventListener('pointermove', (event) => this.#point(event));
    slots.picture.addEventListener('pointerleave', () => this.#rest());
  }

  /**
   * @param {(number|null)[]} values per step, oldest first; null: not known
   * @param {{step_seconds: number, until: number}} steps
   */
  update(values, steps) {
    this.#values = values;
    this.#steps = steps;
    const most = Math.max(this.least, ...values.map((value) => value ?? 0));
    setAttribute(this.#slots.mark, 'd', columns(values, most, this.kind === 'sum' ? 0.8 : 1.03));
    setAttribute(this.#slots.base, 'd', base(values));
    setAttribute(this.#slots.picture, 'aria-label', this.#words());
    if (!this.#slots.picture.matches(':hover')) this.#rest();
  }

  #timeOf(index) {
    const { step_seconds: step, until } = this.#steps;
    return hour(until - (this.#values.length - index) * step);
  }

  #peak() {
    const known = this.#values.filter((value) => value !== null);
    return known.length ? Math.max(...known) : null;
  }

  #span() {
    const minutes = Math.round((this.#values.length * this.#steps.step_seconds) / 60);
    return minutes === 60 ? 'last hour' : `last ${minutes} min`;
  }

  #unit() {
    const seconds = this.#steps.step_seconds;
    if (this.kind === 'level') return '';
    return seconds === 60 ? '/min' : ` in ${seconds} s`;
  }

  #rest() {
    const peak = this.#peak();
    setText(this.#slots.read, peak === null ? 'nothing known' : `peak ${this.say(peak)}${this.#unit()}`);
  }

  #point(event) {
    const box = this.#slots.picture.getBoundingClientRect();
    const index = Math.floor(((event.clientX - box.left) / box.width) * this.#values.length);
    const value = this.#values[Math.min(Math.max(index, 0), this.#values.length - 1)];
    setText(this.#slots.read, `${this.#timeOf(index)}  ${value == null ? 'unknown' : this.say(value)}`);
  }

  #words() {
    const peak = this.#peak();
    if (peak === null) return `${this.label}, ${this.#span()}: nothing known.`;
    const known = this.#values.filter((value) => value !== null);
    const at = this.#timeOf(this.#values.indexOf(peak));
    const sum = known.reduce((all, value) => all + value, 0);
    const first = this.kind === 'sum' ? `${this.say(sum)} in all` : `${this.say(known.at(-1))} at last`;
    const most = peak > 0 ? `, at most ${this.say(peak)}${this.#unit()} at ${at}` : '';
    const gaps = this.#values.length - known.length;
    const unknown = gaps ? `; nothing known of ${gaps} of ${this.#values.length} steps` : '';
    return `${this.label}, ${this.#span()}: ${first}${most}${unknown}.`;
  }
}

function topOf(value, most) {
  return value > 0 ? HEIGHT - Math.max((value / most) * (HEIGHT - 1), LEAST_HEIGHT) : HEIGHT;
}

// Bars have gaps between them; the columns of a level touch.
function columns(values, most, share) {
  const step = WIDTH / values.length;
  const column = (value, index) =>
    value ? `M${(index * step).toFixed(2)} ${HEIGHT}V${topOf(value, most).toFixed(2)}h${(step * share).toFixed(2)}V${HEIGHT}z` : '';
  return values.map(column).join('');
}

// The base line is drawn only where values are known: a gap is not a zero.
function base(values) {
  const step = WIDTH / values.length;
  return values.map((value, index) => (value === null ? '' : `M${(index * step).toFixed(2)} ${HEIGHT}h${step.toFixed(2)}`)).join('');
}
