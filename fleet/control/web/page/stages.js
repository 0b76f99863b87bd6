// The stages of one pipeline as a table, and their outputs.

import { cloned, KeyedList, setAttribute, setLook, setText } from './dom.js';
import { count, counted, duration, money } from './format.js';

/** The look of each state of a stage. */
const LOOKS = {
  waiting: { tone: 'unknown', shape: 'unknown' },
  queued: { tone: 'warn', shape: 'waiting' },
  running: { tone: 'accent', shape: 'running' },
  done: { tone: 'good', shape: 'good' },
  failed: { tone: 'bad', shape: 'bad' },
};

/** The table and the outputs below it. */
export class Stages {
  #rows;
  #outputs;
  #empty;

  /** @param {Object<string, Element>} slots of the pipeline's article */
  constructor(slots) {
    this.#rows = new KeyedList(slots.stageRows, (row) => row.stage.function_key, () => new StageRow());
    this.#outputs = new KeyedList(slots.outputs, (stage) => stage.function_key, () => new Output());
    this.#empty = slots.outputsEmpty;
  }

  /**
   * @param {object} detail as the API returns it
   * @param {number} at unix seconds: the end of spans that are still open
   */
  render({ stages, ended_at: ended }, at) {
    const names = new Map(stages.map((stage) => [stage.function_key, stage.name]));
    this.#rows.render(stages.map((stage) => ({ stage, names, until: ended ?? at })));
    const told = stages.filter((stage) => stage.output);
    this.#outputs.render(told);
    this.#empty.hidden = told.length > 0;
  }

  /** Opens the last output, which people look for in a pipeline that has ended. */
  openLast() {
    const outputs = [...this.#outputs.rows()];
    if (outputs.length) outputs.at(-1).root.open = true;
  }
}

class StageRow {
  constructor() {
    Object.assign(this, cloned('stage-row'));
  }

  update({ stage, names, until }) {
    Object.assign(this.root.dataset, { stage: stage.function_key, state: stage.state });
    setText(this.slots.order, count(stage.order));
    setText(this.slots.name, stage.name);
    setText(this.slots.model, [stage.provider, stage.model].filter(Boolean).join(', '));
    setText(this.slots.word, stage.state);
    setLook(this.slots.state, LOOKS[stage.state] ?? LOOKS.waiting);
    setText(this.slots.attempts, stage.attempts ? count(stage.attempts) : '–');
    setText(this.slots.waited, lasted(stage.spans, 'waiting', until));
    setText(this.slots.ran, lasted(stage.spans, 'running', until));
    this.#renderPrice(stage);
    setText(this.slots.reads, stage.inputs.map((key) => names.get(key) ?? key).join(', ') || '–');
    setText(this.slots.notes, notesOf(stage));
  }

  // Until the stage has ended, its price is not known.
  #renderPrice(stage) {
    const done = stage.state === 'done' || stage.calls > 0;
    setText(this.slots.input, done || stage.input_tokens ? count(stage.input_tokens) : '–');
    setText(this.slots.output, done || stage.output_tokens ? count(stage.output_tokens) : '–');
    setText(this.slots.cost, done || stage.cost_usd !== null ? costOf(stage) : '–');
  }
}

class Output {
  constructor() {
    Object.assign(this, cloned('stage-output'));
  }

  update({ function_key: key, name, output }) {
    this.root.dataset.stage = key;
    setText(this.slots.name, name);
    setText(this.slots.size, counted(output.length, 'character'));
    setText(this.slots.text, output);
    setAttribute(this.slots.text, 'aria-label', `Output of ${name}`);
  }
}

function lasted(spans, kind, until) {
  const those = spans.filter((span) => span.kind === kind);
  if (!those.length) return '–';
  return duration(those.reduce((all, span) => all + Math.max((span.until ?? until) - span.from, 0), 0));
}

function costOf({ cost_usd: dollars, price_note: note, simulated }) {
  return [note && 'about', money(dollars), simulated && 'simulated'].filter(Boolean).join(' ');
}

function notesOf({ note, state, why, remedy, reused, price_note: price, possibly_paid_twice: twice }) {
  const notes = why && state !== 'done' ? [why, remedy && `Remedy: ${remedy}`, price] : [note, price];
  if (reused) notes.push('reused: the answer of an earlier run');
  if (twice) notes.push(`possibly paid twice: ${counted(twice, 'call')}`);
  return notes.filter(Boolean).join(' · ');
}
