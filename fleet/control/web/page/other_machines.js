// The fleet's other machines: each as it reports itself if it answers, otherwise as Temporal knows it.

import { cloned, KeyedList, setAttribute, setLook, setText, slotsOf, textList } from './dom.js';
import { count, hour, moment, UNKNOWN, whole } from './format.js';

const LOOKS = {
  ok: { tone: 'good', shape: 'good' },
  problems: { tone: 'bad', shape: 'bad' },
  idle: { tone: 'warn', shape: 'probing' },
  gone: { tone: 'bad', shape: 'bad' },
};

/** The section of other machines; hidden if there are none. */
export class Machines {
  #section = document.getElementById('machines');
  #jump = document.getElementById('machines-jump');
  #slots = slotsOf(this.#section);
  #rows = new KeyedList(this.#slots.machineRows, nameOf, () => new MachineRow());
  #notes = textList(this.#slots.machineNotes);

  /** @param {object} state as the API returns it */
  render({ machines, at }) {
    this.#section.hidden = this.#jump.hidden = machines.length === 0;
    const gone = machines.filter((machine) => machine.gone_seconds !== null).length;
    setText(this.#slots.machineCount, gone ? `${gone} of ${machines.length} gone` : '');
    this.#rows.render(machines.map((machine) => ({ ...machine, at })));
    const notes = [...new Set(machines.flatMap(notesOf))];
    this.#notes.render(notes);
    this.#slots.machineNotes.hidden = notes.length === 0;
  }
}

function nameOf({ host, machine }) {
  return `${host}+${machine}`;
}

function notesOf(machine) {
  const problems = (machine.told?.problems ?? []).map((problem) => `${nameOf(machine)}: ${problem}`);
  return machine.why_not ? [...problems, `${nameOf(machine)} could not be asked: ${machine.why_not}`] : problems;
}

function stateOf({ told, gone_seconds: gone, at }) {
  if (gone !== null) {
    const since = moment(at - gone, hour);
    return told ? ['idle', `answers, no work since ${since}`] : ['gone', `gone since ${since}`];
  }
  return told?.problems.length ? ['problems', 'problems'] : ['ok', 'ok'];
}

function processesOf({ told, processes }) {
  if (!told) return processes.length ? count(processes.length) : UNKNOWN;
  const states = Object.values(told.processes);
  return `${states.filter((state) => state === 'RUNNING').length} of ${states.length}`;
}

class MachineRow {
  constructor() {
    Object.assign(this, cloned('machine-row'));
  }

  update(machine) {
    const [state, word] = stateOf(machine);
    Object.assign(this.root.dataset, { machine: nameOf(machine), state });
    setText(this.slots.name, machine.host);
    setAttribute(this.slots.name, 'title', nameOf(machine));
    setText(this.slots.word, word);
    setLook(this.slots.state, LOOKS[state]);
    setText(this.slots.version, machine.version || UNKNOWN);
    setText(this.slots.uptime, whole(machine.told?.uptime_seconds));
    setText(this.slots.processes, processesOf(machine));
    setText(this.slots.pollers, count(Object.values(machine.pollers).reduce((sum, each) => sum + each, 0)));
    setText(this.slots.heard, machine.heard_seconds === null ? '–' : `${whole(machine.heard_seconds)} ago`);
  }
}
