// The progress of pipelines: requested only for visible rows, a few at a time, and only if needed.

const MOST_RUNS = 40;
const PAUSE_MILLISECONDS = 3000;
const GATHER_MILLISECONDS = 150;

/**
 * Requests the progress of visible rows.
 *
 * A row has `root`, `run` ("<workflow_id>~<run_id>"), `wants()` (whether to request it at all), `heard(progress)`
 * (null: not available now) and `seen()` (called when it becomes visible).
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

  /** @returns {Iterable<object>} the visible rows */
  inView() {
    return this.#inView;
  }

  /** @param {object} row to observe from now on */
  watch(row) {
    this.#rows.set(row.root, row);
    this.#observer.observe(row.root);
  }

  /** @param {object} row that was removed */
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

  // Scrolling makes many rows visible at once; they are collected, and the pause between requests is kept.
  #plan() {
    if (this.#timer !== null || document.hidden || !this.#inView.size) return;
    const wait = Math.max(this.#last + PAUSE_MILLISECONDS - performance.now(), GATHER_MILLISECONDS);
    this.#timer = setTimeout(() => this.#ask(), wait);
  }

  // Rows that waited longest come first, so that rows take turns if they do not fit into one request.
  #chosen() {
    const wanting = [...this.#inView].filter((row) => row.wants());
    const since = (row) => this.#asked.get(row) ?? -Infinity;
    return wanting.toSorted((a, b) => since(a) - since(b)).slice(0, MOST_RUNS);
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
      // The server does not answer: the header says so, and the rows keep their values until the next request.
    }
  }
}
