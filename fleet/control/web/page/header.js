// The top of the page: the verdict, whether the data is current, and the four most important figures.

import { setAttribute, setLook, setText, slotsOf, textList, webAddress } from './dom.js';
import { REMARKABLE, TROUBLED, troubleOf } from './providers.js';
import { cost, count, counted, time, UNKNOWN, whole } from './format.js';

const LOOKS = {
  good: { tone: 'good', shape: 'good' },
  warn: { tone: 'warn', shape: 'probing' },
  bad: { tone: 'bad', shape: 'bad' },
};
const NEWS = {
  waiting: { tone: 'unknown', shape: 'waiting' },
  live: { tone: 'good', shape: 'running' },
  stale: { tone: 'bad', shape: 'bad' },
};

/** The header and the summary below it. */
export class Header {
  #top = slotsOf(document.getElementById('top'));
  #glance = slotsOf(document.getElementById('glance'));
  #problems = textList(this.#top.problems);
  #verdict = 'Looking';

  /** @returns {string} the verdict, for the title of the window */
  get verdict() {
    return document.body.dataset.news === 'stale' ? 'No news' : this.#verdict;
  }

  /** @param {object} state as the API returns it */
  render(state) {
    this.#renderVerdict(state);
    this.#renderServices(state);
    // Where everybody may read, nobody is logged in. A control process of an older release does not say so.
    this.#top.logout.hidden = state.open_reads ?? true;
    this.#renderTrouble(state.providers);
    this.#renderWaiting(state);
    const { sum, more } = cost(state.today);
    setText(this.#glance.costValue, sum);
    setText(this.#glance.costMore, more || `${counted(state.today.answered, 'call')} answered`);
    setText(this.#glance.runningMore, `${count(state.today.completed)} completed, ${count(state.today.failed)} failed today`);
  }

  /** @param {{running: number}} pipelines */
  renderPipelines({ running }) {
    setText(this.#glance.runningValue, count(running));
  }

  /** @param {{news: string, since: number, connected: boolean}} standing the state of the stream */
  renderNews({ news, since, connected }) {
    const link = connected ? '' : ' · reconnecting';
    const words = {
      waiting: 'Waiting for the first news',
      live: `Live${link}`,
      stale: `No news since ${time(since)}${link || ' · connected'}`,
    };
    document.body.dataset.news = news;
    this.#top.live.dataset.news = news;
    setLook(this.#top.live, NEWS[news]);
    setText(this.#top.news, words[news]);
  }

  #renderVerdict({ ok, problems, host, version }) {
    const well = ok && problems.length === 0;
    this.#verdict = well ? 'All is well' : problems.length ? counted(problems.length, 'problem') : 'Not well';
    setText(this.#top.host, ` on ${host}`);
    setText(this.#top.version, `version ${version}`);
    setText(this.#top.verdictWord, this.#verdict);
    setLook(this.#top.verdict, well ? LOOKS.good : LOOKS.bad);
    this.#problems.render(problems);
  }

  #renderServices({ temporal, backend }) {
    for (const [name, { address, ok }] of Object.entries({ temporal, backend })) {
      setText(this.#top[`${name}Address`], address);
      setText(this.#top[`${name}Word`], ok ? 'answers' : 'does not answer');
      setLook(this.#top[name], ok ? LOOKS.good : LOOKS.bad);
    }
    const address = webAddress(temporal.ui);
    this.#top.ui.hidden = address === null;
    setAttribute(this.#top.uiLink, 'href', address);
  }

  #renderTrouble(providers) {
    const looks = providers.map((provider) => ({ ...troubleOf(provider), name: provider.model ?? provider.provider }));
    const told = looks.filter((look) => look.rank <= REMARKABLE).toSorted((a, b) => a.rank - b.rank);
    const troubled = told.filter((look) => look.rank <= TROUBLED);
    const tone = troubled.length ? (troubled.some((look) => look.tone === 'bad') ? 'bad' : 'warn') : 'good';
    const well = told.length ? 'None in trouble' : `${count(providers.length)} well`;
    setText(this.#glance.troubleValue, troubled.length ? `${count(troubled.length)} in trouble` : well);
    setText(this.#glance.troubleMore, told.map((look) => `${look.name}: ${look.word}`).join(' · ') || 'none in trouble');
    setAttribute(this.#glance.trouble, 'data-tone', tone);
  }

  #renderWaiting({ providers, queues }) {
    const told = providers.filter((provider) => provider.backlog !== null);
    const age = (provider) => provider?.backlog_age_seconds ?? 0;
    const oldest = providers.reduce((most, provider) => (age(provider) > age(most) ? provider : most), null);
    const inside = queues.reduce((all, queue) => all + (queue.backlog ?? 0), 0);
    const words = [oldest ? `oldest ${whole(oldest.backlog_age_seconds)}, ${oldest.model ?? oldest.provider}` : 'none is kept waiting'];
    if (inside) words.push(`${counted(inside, 'task')} in other queues`);
    if (told.length < providers.length) words.push(`${counted(providers.length - told.length, 'queue')} unknown`);
    const sum = told.reduce((all, provider) => all + provider.backlog, 0);
    setText(this.#glance.waitingValue, told.length || !providers.length ? count(sum) : UNKNOWN);
    setText(this.#glance.waitingMore, words.join(' · '));
  }
}

/** @param {Header} header @param {object} state @returns {string} the title of the overview's window */
export function overviewTitle(header, state) {
  return state ? `${header.verdict} · ${state.host} · Fleet` : 'Fleet';
}
