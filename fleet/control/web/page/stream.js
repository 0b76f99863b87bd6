// The server-sent events, and whether they still arrive.

const STALE_SECONDS = 6;
const REOPEN_SECONDS = 3;

/**
 * Follows /api/events as long as the page is open.
 *
 * `heard(event, object)` is called for each event, `standing({news, since, connected})` every second; `news` is
 * "waiting" before the first event, then "live" or "stale"; `since` is when the last event arrived, in unix
 * seconds.
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

  /** Starts the stream; called once per page. */
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

  // The browser reconnects after a lost connection, but stops after an answer that is not an event stream.
  #failed() {
    this.#tell();
    if (this.#source.readyState !== EventSource.CLOSED) return;
    setTimeout(() => this.#reopen(), REOPEN_SECONDS * 1000);
  }

  // After the session's end, the same address shows the login page.
  async #reopen() {
    const answer = await fetch('/', { method: 'HEAD' }).catch(() => null);
    if (answer?.status === 401) location.reload();
    else this.#open();
  }

  #tell() {
    const since = this.#last ?? this.#opened;
    const late = Date.now() / 1000 - since > STALE_SECONDS;
    const news = late ? 'stale' : this.#last === null ? 'waiting' : 'live';
    this.#standing({ news, since, connected: this.#source.readyState === EventSource.OPEN });
  }
}
