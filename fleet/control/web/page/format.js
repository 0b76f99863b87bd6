// Figures and times as text. An unknown value is shown as unknown, never as zero.

const WHOLE = new Intl.NumberFormat('en-GB', { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat('en-GB', { notation: 'compact', maximumSignificantDigits: 3 });
const FINE = new Intl.NumberFormat('en-GB', { maximumSignificantDigits: 2 });
const TIME = new Intl.DateTimeFormat('en-GB', { timeStyle: 'medium' });
const HOUR = new Intl.DateTimeFormat('en-GB', { timeStyle: 'short' });
const DAY = new Intl.DateTimeFormat('en-GB', { weekday: 'short', day: 'numeric', month: 'short' });
const FEW_DOLLARS = 1;

export const UNKNOWN = 'unknown';

/** How far the server's clock is ahead of this one, in seconds. */
let ahead = 0;

/**
 * Sets the clock by the server's, so that ages do not depend on the operator's clock.
 * @param {number} at unix seconds, as just received
 */
export function setClock(at) {
  ahead = at - Date.now() / 1000;
}

/** @returns {number} unix seconds by the server's clock */
export function now() {
  return Date.now() / 1000 + ahead;
}

/** @param {?number} value @returns {string} all its digits */
export function count(value) {
  return value == null ? UNKNOWN : WHOLE.format(value);
}

/** @param {?number} value @returns {string} as "1.23M" from ten thousand on */
export function short(value) {
  // A small m would mean a thousandth.
  return value == null || Math.abs(value) < 10_000 ? count(value) : SHORT.format(value).replace('m', 'M');
}

/** @param {number} value @returns {string} with two digits if it is small */
export function pace(value) {
  return Math.abs(value) < 10 ? FINE.format(value) : count(value);
}

/** @param {number} value @param {string} noun @returns {string} "1 call", "2 calls" */
export function counted(value, noun) {
  return `${count(value)} ${noun}${value === 1 ? '' : 's'}`;
}

/** @param {?number} dollars @returns {string} a small amount has more digits */
export function money(dollars) {
  if (dollars == null) return UNKNOWN;
  const digits = dollars !== 0 && Math.abs(dollars) < FEW_DOLLARS ? 4 : 2;
  return new Intl.NumberFormat('en-GB', {
    style: 'currency', currency: 'USD', currencyDisplay: 'narrowSymbol', minimumFractionDigits: 2, maximumFractionDigits: digits,
  }).format(dollars);
}

/**
 * What something cost, how many calls have an unknown price, and what is simulated and so not paid.
 * @param {{cost_usd: ?number, simulated_cost_usd: number, unpriced_calls: number}} spent
 * @returns {{sum: string, more: string}}
 */
export function cost({ cost_usd: dollars, simulated_cost_usd: simulated, unpriced_calls: unpriced }) {
  const unknown = unpriced && !dollars;
  const more = [];
  if (unpriced) more.push(`${counted(unpriced, 'call')} of unknown price`);
  if (simulated) more.push(`${money(simulated)} simulated`);
  return { sum: unknown ? UNKNOWN : money(dollars), more: (more.length && !unknown ? 'and ' : '') + more.join(', ') };
}

/** @param {?number} seconds @returns {string} "1.9 s", "3 min 12 s", "2 h 5 min", "3 d 4 h" */
export function duration(seconds) {
  if (seconds == null) return UNKNOWN;
  if (seconds < 1) return `${Math.max(Math.round(seconds * 1000), 0)} ms`;
  if (seconds < 10) return `${FINE.format(seconds)} s`;
  return whole(seconds);
}

/** @param {?number} seconds @returns {string} as duration(), without fractions: for values that count up */
export function whole(seconds) {
  if (seconds == null) return UNKNOWN;
  const all = Math.max(Math.floor(seconds), 0);
  const [days, hours, minutes, rest] = [all / 86_400, (all / 3_600) % 24, (all / 60) % 60, all % 60].map(Math.floor);
  if (days) return both(`${days} d`, hours, 'h');
  if (hours) return both(`${hours} h`, minutes, 'min');
  return minutes ? both(`${minutes} min`, rest, 's') : `${rest} s`;
}

function both(first, second, unit) {
  return second ? `${first} ${second} ${unit}` : first;
}

/** @param {number} at unix seconds @returns {string} "03:12:44" */
export function time(at) {
  return TIME.format(at * 1000);
}

/** @param {number} at unix seconds @returns {string} "03:12" */
export function hour(at) {
  return HOUR.format(at * 1000);
}

/**
 * A time with its day, unless that is today.
 * @param {number} at unix seconds
 * @param {function(number): string} [written] time, or hour where seconds do not matter
 * @returns {string}
 */
export function moment(at, written = time) {
  const today = new Date(now() * 1000).toDateString() === new Date(at * 1000).toDateString();
  return today ? written(at) : `${DAY.format(at * 1000)}, ${written(at)}`;
}
