// Today's totals, and charts of the last hour.

import { Chart } from './chart.js';
import { setAttribute, setText, slotsOf } from './dom.js';
import { cost, count, hour, money, moment, short } from './format.js';

/** The section of today's totals. */
export class Today {
  #slots = slotsOf(document.getElementById('today'));
  #charts = {
    completed: new Chart({ label: 'Pipelines completed', tone: 'answered' }),
    failed: new Chart({ label: 'Pipelines failed', tone: 'troubled' }),
    cost_usd: new Chart({ label: 'Cost', tone: 'cost', least: 0.01, say: money }),
    simulated_cost_usd: new Chart({ label: 'Simulated cost, not paid', tone: 'cost', least: 0.01, say: money }),
  };

  constructor() {
    this.#slots.charts.append(...Object.values(this.#charts).map((chart) => chart.root));
  }

  /** @param {object} state as the contract has it */
  render({ today, series }) {
    const { sum, more } = cost(today);
    setText(this.#slots.since, `since ${moment(today.since, hour)}; charts: the last hour at most`);
    setText(this.#slots.answered, count(today.answered));
    setText(this.#slots.inputTokens, short(today.input_tokens));
    setText(this.#slots.outputTokens, short(today.output_tokens));
    setText(this.#slots.cost, sum);
    setText(this.#slots.costMore, more);
    setText(this.#slots.completed, count(today.completed));
    setText(this.#slots.failed, count(today.failed));
    setAttribute(this.#slots.failedBox, 'data-tone', today.failed ? 'bad' : null);
    for (const [name, chart] of Object.entries(this.#charts)) chart.update(series[name], series);
    const { cost_usd: paid, simulated_cost_usd: simulated } = this.#charts;
    simulated.root.hidden = !series.simulated_cost_usd.some(Boolean);
    paid.root.hidden = !simulated.root.hidden && !series.cost_usd.some(Boolean);
  }
}
