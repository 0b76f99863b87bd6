// The stages of one pipeline on a time axis. The table below it has the same data as text.

import { cloned, KeyedList, setAttribute, setText } from './dom.js';
import { counted, whole } from './format.js';

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400];
// Space for one label, in pixels.
const TICK_WIDTH = 80;
const MOST_TICKS = 8;

/** Draws into an element with role=img. */
export class Timeline {
  #root;
  #axis;
  #lines;

  constructor(root) {
    this.#root = root;
    this.#axis = new Axis();
    root.append(this.#axis.root);
    const lines = document.createElement('div');
    root.append(lines);
    this.#lines = new KeyedList(lines, (line) => line.stage.function_key, () => new Line());
  }

  /**
   * @param {object} detail as the API returns it
   * @param {number} at the right edge for a running pipeline, unix seconds
   */
  draw(detail, at) {
    const until = detail.ended_at ?? at;
    const length = Math.max(until - detail.started_at, 1);
    const shareOf = (moment) => Math.min(Math.max((moment - detail.started_at) / length, 0), 1);
    this.#axis.draw(length);
    this.#lines.render(detail.stages.map((stage) => ({ stage, until, shareOf })));
    setAttribute(this.#root, 'aria-label', inWords(detail.stages, length));
  }
}

class Axis {
  #ticks;
  #width;

  constructor() {
    const { root, slots } = cloned('timeline-row');
    this.root = root;
    root.classList.add('axis');
    this.#width = () => slots.track.clientWidth;
    this.#ticks = new KeyedList(slots.track, (tick) => tick.seconds, () => new Tick());
  }

  draw(length) {
    const most = Math.min(Math.max(Math.floor(this.#width() / TICK_WIDTH), 1), MOST_TICKS);
    const step = STEPS.find((seconds) => length / seconds <= most) ?? Math.ceil(length / most);
    const many = Math.floor(length / step) + 1;
    this.#ticks.render(Array.from({ length: many }, (_, index) => ({ seconds: index * step, share: (index * step) / length })));
  }
}

class Tick {
  root = document.createElement('span');

  update({ seconds, share }) {
    this.root.className = 'tick';
    // A label at the right edge would extend beyond it.
    this.root.dataset.edge = share > 0.93 ? '1' : '0';
    this.root.style.left = `${share * 100}%`;
    setText(this.root, whole(seconds));
  }
}

class Line {
  #spans;

  constructor() {
    Object.assign(this, cloned('timeline-row'));
    this.#spans = new KeyedList(this.slots.track, (span) => span.index, () => new Span());
  }

  update({ stage, until, shareOf }) {
    setText(this.slots.name, stage.name);
    this.root.dataset.state = stage.state;
    const last = stage.spans.length - 1;
    this.#spans.render(stage.spans.map((span, index) => ({
      ...span,
      index,
      left: shareOf(span.from),
      right: shareOf(span.until ?? until),
      open: span.until === null,
      failed: stage.state === 'failed' && index === last,
    })));
  }
}

class Span {
  root = document.createElement('span');

  update({ kind, left, right, open, failed, attempt }) {
    this.root.className = 'span';
    Object.assign(this.root.dataset, { kind, open: open ? '1' : '0', failed: failed ? '1' : '0' });
    this.root.style.left = `${left * 100}%`;
    this.root.style.width = `${(right - left) * 100}%`;
    setText(this.root, attempt > 1 && kind === 'running' ? String(attempt) : '');
  }
}

function inWords(stages, length) {
  const states = Map.groupBy(stages, (stage) => stage.state);
  const told = [...states].map(([state, ones]) => `${ones.length} ${state}`).join(', ');
  return `${counted(stages.length, 'stage')} over ${whole(length)}: ${told}. The table below says it in figures.`;
}
