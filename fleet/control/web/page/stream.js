// The server's news: server-sent events, and whether they still come.

const STALE_SECONDS = 6;
const REOPEN_SECONDS = 3;

/**
 * Follows /api/events for ever.
 *
 * `heard(event, object)` is called for each event, `standing({news, since, connected})` every second; `news` is
 * "waiting" before the first event, then "live" or "stale"; `since` is when the last one came, in unix seconds.
 */
export class Stream {
  #source = null;
  #last = null;
  #opened = Date.now() / 1000;
  #heard;
  #standing;

  constructor(heard, standing) {
    this.#heard = heard;
    this.#standing = standing;
  }

  /** Begins; a page does it once. */
  follow() {
    this.#open();
    setInterval(() => this.#tell(), 1000);
  }

  #open() {
    this.#source = new EventSource('/api/events');
    for (const name of ['state', 'pipelines']) {
      this.#source.addEventListener(name, (event) => this.#receive(name, event.data));
    }
    this.#source.addEventListener('error', () => this.#failed());
  }

  #receive(name, text) {
    this.#last = Date.now() / 1000;
    this.#heard(name, JSON.parse(text));
    this.#tell();
  }

  // The browser reconnects after a lost connection, but gives up for good after an answer that is no stream.
  #failed() {
    this.#tell();
    if (this.#source.readyState !== EventSource.CLOSED) return;
    setTimeout(() => this.#open(), REOPEN_SECONDS * 1000);
  }

  #tell() {
    const since = this.#last ?? this.#opened;
    const late = Date.now() / 1000 - since > STALE_SECONDS;
    const news = late ? 'stale' : this.#last === null ? 'waiting' : 'live';
    this.#standing({ news, since, connected: this.#source.readyState === EventSource.OPEN });
  }
}
