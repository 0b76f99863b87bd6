// One card per queue of a provider, those in trouble first.

import { Chart } from './chart.js';
import { cloned, KeyedList, setAttribute, setLook, setShare, setText, slotsOf } from './dom.js';
import { cost, count, counted, duration, hour, moment, now, pace, short, UNKNOWN, whole } from './format.js';

// From this rate on, the server reports that no limit is known.
const UNLIMITED = 1000;
// A card moves before its peers if more than this share of calls was refused or failed in this many recent steps;
// a few 429s do not move it.
const RECENT_STEPS = 5;
const RECENT_SHARE = 0.1;

/** Ranks up to this one are trouble. */
export const TROUBLED = 2;
/** Ranks up to this one are unusual: paused by an operator, or without a known budget. */
export const REMARKABLE = 4;

const BREAKERS = {
  parked: { rank: 0, word: 'parked', tone: 'bad', shape: 'bad' },
  probing: { rank: 1, word: 'probing', tone: 'warn', shape: 'probing' },
  paused: { rank: 3, word: 'paused', tone: 'paused', shape: 'paused' },
  closed: { rank: 6, word: 'healthy', tone: 'good', shape: 'good' },
};
const UNKEPT = { rank: 4, word: 'no budget', tone: 'unknown', shape: 'unknown' };
const UNSERVED = { rank: 2, tone: 'bad', shape: 'bad' };

/**
 * How much trouble a provider is in, and how to show it.
 * @param {object} provider as the API returns it
 * @returns {{rank: number, word: string, tone: string, shape: string}} the lowest rank is the worst
 */
export function troubleOf(provider) {
  const look = provider.breaker === null ? UNKEPT : BREAKERS[provider.breaker] ?? UNKEPT;
  if (provider.pollers === 0 && look.rank > UNSERVED.rank) return { ...UNSERVED, word: `${look.word}, no poller` };
  return look === BREAKERS.closed && failsOfLate(provider.series) ? { ...look, rank: look.rank - 1 } : look;
}

function failsOfLate({ answered, troubled }) {
  const sum = (values) => values.slice(-RECENT_STEPS).reduce((all, value) => all + (value ?? 0), 0);
  return sum(troubled) > RECENT_SHARE * (sum(answered) + sum(troubled));
}

/** The section of the cards. */
export class Providers {
  #slots = slotsOf(document.getElementById('providers'));
  #cards = new KeyedList(this.#slots.cards, (provider) => provider.queue, () => new Card());

  /** @param {object} state as the API returns it */
  render(state) {
    const ranked = state.providers.toSorted((a, b) => troubleOf(a).rank - troubleOf(b).rank);
    this.#cards.render(ranked.map((provider) => ({ ...provider, operable: state.operable, steps: state.series })));
    this.#slots.empty.hidden = ranked.length > 0;
  }
}

class Card {
  #limits;
  #charts = {
    answered: new Chart({ label: 'Answered', tone: 'answered' }),
    troubled: new Chart({ label: '429s, failed', tone: 'troubled' }),
    backlog: new Chart({ label: 'Waiting', tone: 'backlog', kind: 'level' }),
  };

  constructor() {
    Object.assign(this, cloned('provider-card'));
    this.#limits = new KeyedList(this.slots.limits, (limit) => limit.what, () => new LimitRow());
    this.slots.charts.append(...Object.values(this.#charts).map((chart) => chart.root));
  }

  update(provider) {
    const look = troubleOf(provider);
    Object.assign(this.root.dataset, { queue: provider.queue, provider: provider.provider, breaker: provider.breaker ?? 'none', tone: look.tone });
    setText(this.slots.name, provider.provider);
    setText(this.slots.model, provider.model ?? '');
    setText(this.slots.word, look.word);
    setLook(this.slots.state, look);
    setText(this.slots.why, whyOf(provider));
    this.#renderPace(provider);
    this.#renderFacts(provider);
    this.#renderToday(provider.today);
    this.#limits.render(provider.limits);
    for (const [name, chart] of Object.entries(this.#charts)) chart.update(provider.series[name], provider.steps);
    this.#renderAct(provider);
  }

  #renderPace(provider) {
    const { calls_per_minute: calls, rate } = provider;
    const known = rate !== null && rate < UNLIMITED;
    const requests = provider.limits.find((limit) => limit.what === 'requests')?.per_minute ?? 0;
    const most = known ? Math.max(requests, rate * 60, Number.MIN_VALUE) : calls || 1;
    setText(this.slots.calls, `${pace(calls)} calls/min`);
    setText(this.slots.paceWords, paceWords(provider, requests));
    setShare(this.slots.may, known ? (rate * 60) / most : 0);
    setShare(this.slots.now, known ? calls / most : 0);
    this.slots.meter.dataset.known = known ? '1' : '0';
    setAttribute(this.slots.meter, 'aria-valuemax', known ? most.toFixed(1) : null);
    setAttribute(this.slots.meter, 'aria-valuenow', Math.min(calls, most).toFixed(1));
    setAttribute(this.slots.meter, 'aria-valuetext', `${this.slots.calls.textContent} ${this.slots.paceWords.textContent}`);
    setAttribute(this.slots.meter, 'aria-label', `Pace of ${provider.provider}`);
  }

  #renderFacts(provider) {
    const { backlog, backlog_age_seconds: age, pollers, hour } = provider;
    setText(this.slots.backlog, short(backlog));
    setText(this.slots.age, backlog === 0 ? '–' : whole(age));
    setText(this.slots.pollers, pollers === 0 ? '0, none!' : count(pollers));
    setText(this.slots.refused, count(hour.refused));
    setText(this.slots.failed, count(hour.failed));
    setText(this.slots.median, hour.median_seconds === null && !hour.answered ? '–' : duration(hour.median_seconds));
    setAttribute(this.slots.pollersBox, 'data-tone', pollers === 0 ? 'bad' : null);
    setAttribute(this.slots.refusedBox, 'data-tone', hour.refused ? 'warn' : null);
    setAttribute(this.slots.failedBox, 'data-tone', hour.failed ? 'bad' : null);
  }

  #renderToday(today) {
    const { sum, more } = cost(today);
    setText(this.slots.today, `${counted(today.answered, 'call')} · ${short(today.input_tokens)} tokens in, ${short(today.output_tokens)} out`);
    setText(this.slots.cost, sum === UNKNOWN ? 'cost unknown' : [sum, more].filter(Boolean).join(' '));
    setAttribute(this.slots.cost, 'title', more || null);
  }

  #renderAct({ operable, breaker, provider }) {
    const action = breaker === 'paused' || breaker === 'parked' ? 'resume' : 'pause';
    this.slots.act.hidden = !operable;
    Object.assign(this.slots.act.dataset, { act: action, provider });
    setText(this.slots.act, action === 'pause' ? 'Pause …' : 'Resume …');
    setAttribute(this.slots.act, 'aria-label', `${action === 'pause' ? 'Pause' : 'Resume'} ${provider} …`);
  }
}

class LimitRow {
  constructor() {
    Object.assign(this, cloned('limit-row'));
  }

  update({ what, per_minute: most, level, others_per_minute: others }) {
    const left = level === null ? '' : `${short(Math.max(Math.round(level), 0))} left of `;
    const taken = others >= 1 ? `, others take ${short(others)}` : '';
    setText(this.slots.words, `${what.replace('_', ' ')}: ${left}${short(most)}/min${taken}`);
    setShare(this.slots.now, level === null || !most ? 0 : level / most);
  }
}

function whyOf({ breaker, why, until, queue, pollers }) {
  const words = [why || (breaker === 'closed' ? 'calls flow' : breaker === null ? 'the budget workflow is not running (no pipeline worker)' : '')];
  if (breaker === 'parked') words.push(until === null ? 'stays so until somebody acts' : `opens at ${moment(until, hour)}, in ${whole(until - now())}`);
  if (pollers === 0) words.push(`nobody polls ${queue}`);
  return words.filter(Boolean).join(' · ');
}

function paceWords({ rate, exact, breaker }, requests) {
  if (rate === null) return '· rate unknown';
  if (rate >= UNLIMITED) return '· no limit known';
  if (rate === 0) return `· nothing is dispatched while ${breaker ?? 'at rate 0'}`;
  const about = exact ? '' : 'about ';
  const limit = requests ? `, limit ${pace(requests)}` : '';
  return `· may be ${about}${pace(rate * 60)}${limit}`;
}
