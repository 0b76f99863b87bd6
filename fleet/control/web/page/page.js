// The page: events arrive on the stream and go to the sections; the address selects what is shown.

import { Detail } from './detail.js';
import { Header, overviewTitle } from './header.js';
import { Machine } from './this_machine.js';
import { Machines } from './other_machines.js';
import { offerOperations } from './operations.js';
import { linkOf, Pipelines } from './pipelines.js';
import { Providers } from './providers.js';
import { Stream } from './stream.js';
import { Today } from './today_charts.js';
import { setClock } from './format.js';

const PIPELINE = /^#\/pipeline\/([^/]+)\/([^/]+)$/;

const overview = document.getElementById('overview');
const header = new Header();
const pipelines = new Pipelines();
const detail = new Detail();
const sections = [
  header, new Providers(), new Today(), new Machine((workflow) => pipelines.linkTo(workflow)), new Machines(),
];
let latest = null;
let opened = null;
let scrolled = 0;

function hear(event, told) {
  setClock(told.at);
  if (event === 'pipelines') {
    header.renderPipelines(told);
    pipelines.render(told);
    return;
  }
  for (const section of sections) section.render(told);
  if (latest === null) {
    document.body.dataset.live = '1';
    performance.mark('first-live-state');
  }
  latest = told;
}

function renderStanding(standing) {
  header.renderNews(standing);
  document.title = opened ? detail.title : overviewTitle(header, latest);
}

/** @returns {?{workflow: string, run: string}} the pipeline that the address names */
function addressed() {
  const found = PIPELINE.exec(location.hash);
  if (!found) return null;
  try {
    return { workflow: decodeURIComponent(found[1]), run: decodeURIComponent(found[2]) };
  } catch {
    return null; // the address was cut in the middle of an encoded character
  }
}

function route() {
  const wanted = addressed();
  if (wanted) showDetail(wanted);
  else if (opened) showOverview();
}

function showDetail(which) {
  if (!opened) scrolled = window.scrollY;
  opened = which;
  overview.hidden = true;
  window.scrollTo(0, 0);
  detail.open(which);
}

// Returns to the row that was opened, if it still exists.
function showOverview() {
  const link = linkOf({ workflow_id: opened.workflow, run_id: opened.run });
  opened = null;
  detail.close();
  overview.hidden = false;
  const section = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (section) return section.scrollIntoView();
  window.scrollTo(0, scrolled);
  const row = overview.querySelector(`.row a[href="${CSS.escape(link)}"]`);
  (row ?? document.getElementById('running-title')).focus({ preventScroll: true });
}

// Its address is an anchor in the page, not one of the router's.
document.querySelector('.skip').addEventListener('click', (event) => {
  event.preventDefault();
  document.getElementById('main').focus();
});
history.scrollRestoration = 'manual';
window.addEventListener('hashchange', route);
offerOperations();
route();
new Stream(hear, renderStanding).follow();
