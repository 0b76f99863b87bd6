// The opened pipeline: requested again every two seconds while it runs and the page is visible.

import { setAttribute, setLook, setText, slotsOf, textList, webAddress } from './dom.js';
import { STATUSES } from './pipelines.js';
import { Stages } from './stages.js';
import { Timeline } from './timeline.js';
import { cost, count, moment, now, setClock, whole } from './format.js';

const AGAIN_MILLISECONDS = 2000;
const TICK_MILLISECONDS = 1000;

/** The article of the opened pipeline. */
export class Detail {
  #root = document.getElementById('pipeline');
  #slots = slotsOf(this.#root);
  #warnings = textList(this.#slots.warningRows);
  #timeline = new Timeline(this.#slots.timeline);
  #stages = new Stages(this.#slots);
  #leave = null;
  #latest = null;

  constructor() {
    setInterval(() => this.#tick(), TICK_MILLISECONDS);
  }

  /** @returns {string} for the title of the window */
  get title() {
    return `${this.#slots.topic.textContent} · ${this.#slots.statusWord.textContent} · Fleet`;
  }

  /**
   * Shows a pipeline until close(), or another one is opened.
   * @param {{workflow: string, run: string}} which
   */
  async open({ workflow, run }) {
    this.close();
    const leave = new AbortController();
    this.#leave = leave;
    this.#blank(workflow);
    this.#root.hidden = false;
    this.#slots.topic.focus();
    const query = `workflow_id=${encodeURIComponent(workflow)}&run_id=${encodeURIComponent(run)}`;
    while (!leave.signal.aborted && (await this.#refresh(query, leave.signal))) await pause(leave.signal);
  }

  /** Hides the pipeline and stops the requests. */
  close() {
    this.#leave?.abort();
    this.#latest = null;
    this.#root.hidden = true;
  }

  #blank(workflow) {
    setText(this.#slots.topic, workflow);
    setText(this.#slots.statusWord, 'loading');
    setLook(this.#slots.status, { tone: 'unknown', shape: 'waiting' });
    this.#slots.body.hidden = true;
    this.#slots.refreshing.hidden = true;
  }

  /** @returns {Promise<boolean>} whether to request it again */
  async #refresh(query, signal) {
    if (document.hidden && this.#latest) return true;
    try {
      const answer = await fetch(`/api/pipeline?${query}`, { signal });
      const told = await answer.json();
      if (answer.ok) return this.#show(told);
      this.#say(told.error);
      if (answer.status === 404) setText(this.#slots.statusWord, 'not found');
      return answer.status !== 404;
    } catch {
      if (!signal.aborted) this.#say('The server does not answer; what stands here may be old. It is asked again.');
      return !signal.aborted;
    }
  }

  #say(words) {
    setText(this.#slots.refreshing, words);
    this.#slots.refreshing.hidden = false;
  }

  #show(detail) {
    const first = this.#latest === null;
    this.#latest = detail;
    setClock(detail.at);
    this.#slots.refreshing.hidden = true;
    this.#slots.body.hidden = false;
    this.#renderHead(detail);
    this.#renderTrouble(detail);
    this.#renderTimes(detail);
    if (first && detail.status !== 'running') this.#stages.openLast();
    return detail.status === 'running';
  }

  #renderHead(detail) {
    const { stages } = detail;
    const sum = (name) => stages.reduce((all, stage) => all + stage[name], 0);
    setText(this.#slots.topic, detail.topic || detail.workflow_id);
    const look = STATUSES[detail.status] ?? { word: detail.status, tone: 'unknown', shape: 'unknown' };
    setText(this.#slots.statusWord, look.word);
    setLook(this.#slots.status, look);
    setText(this.#slots.started, moment(detail.started_at));
    setText(this.#slots.done, `${count(stages.filter((stage) => stage.state === 'done').length)} of ${count(stages.length)}`);
    setText(this.#slots.inputTokens, count(sum('input_tokens')));
    setText(this.#slots.outputTokens, count(sum('output_tokens')));
    const spent = costOf(stages);
    setText(this.#slots.cost, spent.sum);
    setText(this.#slots.costMore, spent.more);
    setText(this.#slots.project, detail.project_id);
    setText(this.#slots.workflowId, detail.workflow_id);
    setText(this.#slots.runId, detail.run_id);
    const address = webAddress(detail.ui);
    this.#slots.ui.hidden = address === null;
    setAttribute(this.#slots.ui, 'href', address);
  }

  #renderTrouble({ error, warnings }) {
    this.#slots.error.hidden = error === null;
    setText(this.#slots.errorCode, error?.code ?? '');
    setText(this.#slots.errorMessage, error?.message ?? '');
    this.#slots.warnings.hidden = warnings.length === 0;
    this.#warnings.render(warnings);
  }

  #renderTimes(detail) {
    const at = now();
    setText(this.#slots.tookLabel, detail.ended_at === null ? 'Running for' : 'Took');
    setText(this.#slots.took, whole((detail.ended_at ?? at) - detail.started_at));
    this.#timeline.draw(detail, at);
    this.#stages.render(detail, at);
  }

  // Running times also grow between two answers.
  #tick() {
    if (this.#latest?.status === 'running' && !document.hidden) this.#renderTimes(this.#latest);
  }
}

// With calls of unknown price, the sum is only a part of the total.
function costOf(stages) {
  const sum = (those) => those.reduce((all, stage) => all + (stage.cost_usd ?? 0), 0);
  const paid = stages.filter((stage) => !stage.simulated);
  const unpriced = paid.reduce((all, stage) => all + stage.unpriced_calls, 0);
  const simulated = sum(stages.filter((stage) => stage.simulated));
  return cost({ cost_usd: sum(paid), simulated_cost_usd: simulated, unpriced_calls: unpriced });
}

function pause(signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, AGAIN_MILLISECONDS);
    signal.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
  });
}
