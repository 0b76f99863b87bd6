// How far the pipelines are: asked only for the rows that are seen, few at a time, and never in vain.

const MOST_RUNS = 40;
const PAUSE_MILLISECONDS = 3000;
const GATHER_MILLISECONDS = 150;

/**
 * Asks for the progress of rows in view.
 *
 * A row has `root`, `run` ("<workflow_id>~<run_id>"), `wants()` (whether to ask for it at all), `heard(progress)`
 * (null: could not be asked now) and `seen()` (called when it comes into view).
 */
export class Progress {
  #rows = new Map();
  #inView = new Set();
  #asked = new WeakMap();
  #last = -Infinity;
  #timer = null;
  #observer = new IntersectionObserver((entries) => this.#look(entries));

  constructor() {
    document.addEventListener('visibilitychange', () => this.#plan());
  }

  /** @returns {Iterable<object>} the rows in view */
  inView() {
    return this.#inView;
  }

  /** @param {object} row to watch from now on */
  watch(row) {
    this.#rows.set(row.root, row);
    this.#observer.observe(row.root);
  }

  /** @param {object} row that is gone */
  forget(row) {
    this.#observer.unobserve(row.root);
    this.#rows.delete(row.root);
    this.#inView.delete(row);
  }

  #look(entries) {
    for (const { target, isIntersecting } of entries) {
      const row = this.#rows.get(target);
      if (!row) continue;
      if (isIntersecting) row.seen();
      this.#inView[isIntersecting ? 'add' : 'delete'](row);
    }
    this.#plan();
  }

  // Scrolling brings many rows into view at once; they are gathered, and the server is given its pause.
  #plan() {
    if (this.#timer !== null || document.hidden || !this.#inView.size) return;
    const wait = Math.max(this.#last + PAUSE_MILLISECONDS - performance.now(), GATHER_MILLISECONDS);
    this.#timer = setTimeout(() => this.#ask(), wait);
  }

  // Those who waited longest come first, so that more rows than fit into one request take turns.
  #chosen() {
    const wanting = [...this.#inView].filter((row) => row.wants());
    const since = (row) => this.#asked.get(row) ?? -Infinity;
    return wanting.toSorted((one, other) => since(one) - since(other)).slice(0, MOST_RUNS);
  }

  async #ask() {
    const rows = document.hidden ? [] : this.#chosen();
    this.#last = performance.now();
    for (const row of rows) this.#asked.set(row, this.#last);
    if (rows.length) await this.#tell(rows);
    this.#timer = null;
    this.#plan();
  }

  async #tell(rows) {
    const query = rows.map((row) => `run=${encodeURIComponent(row.run)}`).join('&');
    try {
      const answer = await fetch(`/api/progress?${query}`);
      const found = answer.ok ? await answer.json() : {};
      for (const row of rows) row.heard(found[row.run] ?? null);
    } catch {
      // The server is away: the header says so, and the rows keep what they have until the next turn.
    }
  }
}
