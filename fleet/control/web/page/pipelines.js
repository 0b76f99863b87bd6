// The running pipelines, up to a thousand rows, and those that ended recently.

import { cloned, KeyedList, setAttribute, setLook, setShare, setText, slotsOf } from './dom.js';
import { Progress } from './progress.js';
import { count, hour, moment, now, whole } from './format.js';

// How often an ended run is asked for its topic if it does not answer.
const TRIES = 3;

/** The look of each status of a pipeline. */
export const STATUSES = {
  running: { word: 'running', tone: 'accent', shape: 'running' },
  completed: { word: 'completed', tone: 'good', shape: 'good' },
  failed: { word: 'failed', tone: 'bad', shape: 'bad' },
  canceled: { word: 'cancelled', tone: 'paused', shape: 'paused' },
  terminated: { word: 'terminated', tone: 'bad', shape: 'bad' },
  timed_out: { word: 'timed out', tone: 'bad', shape: 'waiting' },
};

/** @returns {string} the address of a pipeline within this page */
export function linkOf({ workflow_id: workflow, run_id: run }) {
  return `#/pipeline/${encodeURIComponent(workflow)}/${encodeURIComponent(run)}`;
}

const runOf = ({ workflow_id: workflow, run_id: run }) => `${workflow}~${run}`;

/** The sections of running and of ended pipelines. */
export class Pipelines {
  #slots = { ...slotsOf(document.getElementById('running')), ...slotsOf(document.getElementById('ended')) };
  #filter = document.getElementById('filter');
  #progress = new Progress();
  #topics = new Map();
  #links = new Map();
  #latest = { running: 0, listed: [], ended: [] };
  #running = new KeyedList(this.#slots.runningRows, runOf, (run) => this.#watched(new RunningRow(run, this.#topics)));
  #ended = new KeyedList(this.#slots.endedRows, runOf, (run) => this.#watched(new EndedRow(run, this.#topics)));

  constructor() {
    this.#filter.addEventListener('input', () => this.#sift());
    setInterval(() => this.#tick(), 1000);
  }

  /** @param {object} pipelines as the API returns them */
  render(pipelines) {
    this.#latest = pipelines;
    this.#running.render(pipelines.listed);
    this.#ended.render(pipelines.ended);
    this.#links = new Map([...pipelines.ended, ...pipelines.listed].map((run) => [run.workflow_id, linkOf(run)]));
    this.#forgetTopics();
    this.#slots.endedEmpty.hidden = pipelines.ended.length > 0;
    this.#sift();
  }

  /** @param {string} workflow its id @returns {?string} the link to its listed run */
  linkTo(workflow) {
    return this.#links.get(workflow) ?? null;
  }

  #watched(row) {
    this.#progress.watch(row);
    row.removed = () => this.#progress.forget(row);
    return row;
  }

  // A page stays open for weeks, so it keeps the topics of listed runs only.
  #forgetTopics() {
    for (const run of this.#topics.keys()) {
      if (!this.#running.row(run) && !this.#ended.row(run)) this.#topics.delete(run);
    }
  }

  #sift() {
    const wanted = this.#filter.value.trim().toLocaleLowerCase();
    let shown = 0;
    for (const row of this.#running.rows()) {
      const hidden = wanted !== '' && !row.text().includes(wanted);
      if (row.root.hidden !== hidden) row.root.hidden = hidden;
      shown += hidden ? 0 : 1;
    }
    this.#renderCount(shown, wanted);
  }

  #renderCount(shown, wanted) {
    const { running, listed } = this.#latest;
    const words = [`${count(running)} running`];
    if (listed.length < running) words.push(`the newest ${count(listed.length)} are listed`);
    if (wanted) words.push(`${count(shown)} match`);
    setText(this.#slots.runningCount, words.join(', '));
    setText(this.#slots.runningEmpty, wanted ? 'None matches the filter.' : 'No pipeline is running.');
    this.#slots.runningEmpty.hidden = shown > 0;
  }

  #tick() {
    if (document.hidden) return;
    for (const row of this.#progress.inView()) row.seen();
  }
}

class Row {
  #topics;

  constructor(template, item, topics) {
    Object.assign(this, cloned(template), { item, run: runOf(item) });
    this.#topics = topics;
    Object.assign(this.root.dataset, { workflow: item.workflow_id, run: item.run_id });
    this.slots.link.href = linkOf(item);
    setAttribute(this.slots.link, 'title', item.workflow_id);
    this.renderTopic();
  }

  get told() {
    return this.#topics.get(this.run);
  }

  text() {
    return `${this.item.workflow_id} ${this.told?.topic ?? ''} ${this.told?.project_id ?? ''}`.toLocaleLowerCase();
  }

  heard(progress) {
    if (progress === null) return;
    this.#topics.set(this.run, progress);
    this.renderTopic();
  }

  renderTopic() {
    setText(this.slots.link, this.told?.topic || this.item.workflow_id);
    setText(this.slots.project, this.told?.project_id ?? '');
    this.root.dataset.known = this.told ? '1' : '0';
  }
}

class RunningRow extends Row {
  constructor(item, topics) {
    super('running-row', item, topics);
    this.slots.retry.hidden = !item.retry;
    this.slots.done.textContent = '…';
  }

  update() {}

  wants() {
    return true;
  }

  heard(progress) {
    super.heard(progress);
    if (progress === null) {
      if (!this.told) setText(this.slots.done, 'no answer');
      return;
    }
    const { done, total, running, state } = progress;
    setText(this.slots.now, state === 'loading' ? 'loading its assistants' : running.join(', ') || (state === 'running' ? 'waiting' : state));
    setText(this.slots.done, state === 'loading' ? 'loading' : `${count(done)}/${count(total)}`);
    setShare(this.slots.bar, total ? done / total : 0);
  }

  seen() {
    setText(this.slots.time, whole(now() - this.item.started_at));
  }
}

class EndedRow extends Row {
  #tries = 0;

  constructor(item, topics) {
    super('ended-row', item, topics);
  }

  update({ status, started_at: started, ended_at: ended }) {
    const look = STATUSES[status] ?? { word: status, tone: 'unknown', shape: 'unknown' };
    this.root.dataset.status = status;
    setText(this.slots.word, look.word);
    setLook(this.slots.state, look);
    setText(this.slots.took, whole(ended - started));
    setText(this.slots.ended, moment(ended, hour));
  }

  wants() {
    return !this.told && this.#tries < TRIES;
  }

  heard(progress) {
    this.#tries += 1;
    super.heard(progress);
  }

  seen() {}
}
