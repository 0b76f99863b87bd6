// This machine: its processes and programs, the queues besides the providers', and recent errors.

import { cloned, KeyedList, setAttribute, setLook, setText, slotsOf } from './dom.js';
import { count, duration, moment, whole } from './format.js';

// A loop that is late by this much also answers health checks late.
const LATE_SECONDS = 0.25;
const LOOKS = {
  RUNNING: { tone: 'good', shape: 'running' },
  STARTING: { tone: 'warn', shape: 'waiting' },
  STOPPING: { tone: 'warn', shape: 'waiting' },
  STOPPED: { tone: 'paused', shape: 'paused' },
  EXITED: { tone: 'warn', shape: 'probing' },
  BACKOFF: { tone: 'bad', shape: 'bad' },
  FATAL: { tone: 'bad', shape: 'bad' },
};
// Such a process takes no calls, since it could not send them.
const PROBING_LOOK = { tone: 'bad', shape: 'probing' };
const UNKNOWN_LOOK = { tone: 'unknown', shape: 'unknown' };
// These programs always have one process; the server would refuse to scale them.
const ALONE = new Set(['control', 'guardian', 'logs']);

/** The sections of processes and of errors. */
export class Machine {
  #slots = slotsOf(document.getElementById('processes'));
  #errorSlots = slotsOf(document.getElementById('errors'));
  #processes = new KeyedList(this.#slots.processRows, (process) => process.process, () => new ProcessRow());
  #programs = new KeyedList(this.#slots.programRows, (program) => program.program, () => new ProgramRow());
  #queues = new KeyedList(this.#slots.queueRows, (queue) => queue.queue, () => new QueueRow());
  #errors;

  /** @param {function(string): ?string} linkOf the link to a listed pipeline, by its workflow's id */
  constructor(linkOf) {
    this.#errors = new KeyedList(this.#errorSlots.errorRows, (error) => error.key, () => new ErrorRow(linkOf));
  }

  /** @param {object} state as the API returns it */
  render({ processes, queues, errors, operable }) {
    const running = processes.filter((process) => process.state === 'RUNNING').length;
    setText(this.#slots.processCount, processes.length ? `${running} of ${processes.length} running` : '');
    this.#processes.render(processes);
    this.#slots.processEmpty.hidden = processes.length > 0;
    this.#queues.render(queues);
    this.#slots.programs.hidden = !operable;
    this.#programs.render(operable ? programsOf(processes) : []);
    this.#errors.render(keyed(errors));
    this.#errorSlots.errorEmpty.hidden = errors.length > 0;
  }
}

function programsOf(processes) {
  const programs = Map.groupBy(processes, (process) => process.program);
  return [...programs].map(([program, ones]) => ({ program, count: ones.length }));
}

// Two errors can be equal in all reported fields.
function keyed(errors) {
  const seen = new Map();
  return errors.map((error) => {
    const text = `${error.time} ${error.process} ${error.message}`;
    seen.set(text, (seen.get(text) ?? 0) + 1);
    return { ...error, key: `${text} ${seen.get(text)}` };
  });
}

class ProcessRow {
  constructor() {
    Object.assign(this, cloned('process-row'));
  }

  update({ program, process, state, uptime_seconds: uptime, lag_seconds: lag, stage, cannot, restarts, pid }) {
    Object.assign(this.root.dataset, { process, program, state });
    setText(this.slots.name, process);
    setText(this.slots.word, cannot ? `probing, cannot ${cannot}` : stage && stage !== 'serving' ? `${state}, ${stage}` : state);
    setLook(this.slots.state, cannot ? PROBING_LOOK : LOOKS[state] ?? UNKNOWN_LOOK);
    setAttribute(this.slots.name, 'title', pid === null ? null : `pid ${pid}`);
    setText(this.slots.uptime, pid === null ? '–' : whole(uptime));
    setText(this.slots.lag, lag === null ? '–' : duration(lag));
    setAttribute(this.slots.lag, 'data-tone', lag !== null && lag > LATE_SECONDS ? 'warn' : null);
    setText(this.slots.restarts, count(restarts));
    setAttribute(this.slots.restarts, 'data-tone', restarts ? 'warn' : null);
  }
}

class ProgramRow {
  constructor() {
    Object.assign(this, cloned('program-row'));
  }

  update({ program, count: processes }) {
    this.root.dataset.program = program;
    setText(this.slots.name, program);
    setText(this.slots.count, count(processes));
    this.slots.scale.hidden = ALONE.has(program);
    for (const button of [this.slots.scale, this.slots.roll]) {
      Object.assign(button.dataset, { program, count: processes });
      setAttribute(button, 'aria-label', `${button.dataset.act === 'scale' ? 'Scale' : 'Roll'} ${program} …`);
    }
  }
}

class QueueRow {
  constructor() {
    Object.assign(this, cloned('queue-row'));
  }

  update({ queue, backlog, backlog_age_seconds: age, pollers }) {
    this.root.dataset.queue = queue;
    setText(this.slots.name, queue);
    setText(this.slots.backlog, count(backlog));
    setText(this.slots.age, backlog === 0 ? '–' : whole(age));
    setText(this.slots.pollers, pollers === 0 ? '0, none!' : count(pollers));
    setAttribute(this.slots.pollers, 'data-tone', pollers === 0 ? 'bad' : null);
  }
}

class ErrorRow {
  #linkOf;

  constructor(linkOf) {
    this.#linkOf = linkOf;
    Object.assign(this, cloned('error-row'));
  }

  update({ time, level, process, message, workflow_id: workflow }) {
    const link = workflow === null ? null : this.#linkOf(workflow);
    setAttribute(this.slots.time, 'datetime', time);
    setText(this.slots.time, moment(Date.parse(time) / 1000));
    setText(this.slots.process, process);
    setText(this.slots.level, level);
    setText(this.slots.message, message);
    this.slots.link.hidden = workflow === null;
    setText(this.slots.link, workflow ?? '');
    // Without its run id the pipeline has no address; its id is still useful in the Temporal UI.
    setAttribute(this.slots.link, 'href', link);
  }
}
