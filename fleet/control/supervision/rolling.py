"""Replaces processes, several programs side by side, and never leaves a queue without a poller.

If no other process of the program serves, a stand-in polls before a process drains, and ends when all processes
of the program are back: so the process names, and with them the owners of logs and journals, do not change. No
process drains before all stand-ins serve: a release that cannot start is found out before anything has ended.
Processes that do not serve come first, since nothing is lost with them. A stand-in has a number above the
program's count, so that the next roll recognizes one that an interrupted roll left behind.
"""

import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fleet.control.supervision.interrupt_handling import Interrupted
from fleet.control.supervision.machine_processes import Machine, Steps, number_of, process_name
from fleet.control.supervision.programs import write_count
from fleet.control.supervision.supervisord_client import ProcessStatus, SupervisorAway
from fleet.errors import OperationError

#: These are rolled last, since they keep the others running, and without a stand-in.
_LAST = ("backend", "control", "logs", "guardian")
#: A start takes a core for about a second, and a process needs this much memory.
_STARTS_A_CORE, _MB_A_PROCESS = 3, 250


def room() -> int:
    """How many programs can be rolled side by side on this machine, each with one process more than it has.
    Source: proc(5), MemAvailable."""
    lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
    kilobytes = next((int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), 0)
    return max(min((os.cpu_count() or 1) * _STARTS_A_CORE, kilobytes // 1000 // _MB_A_PROCESS), 1)


def roll(machine: Machine, programs: list[str], side_by_side: int = 1) -> list[str]:
    """Renew every process of these programs, or of all programs if none is named, ``side_by_side`` programs at
    once; returns the names of the renewed processes.

    Processes started from now on run the release that runs this code.

    Raises:
        OperationError: there is no such program, or a process did not come up; processes whose turn had not come
            were not touched.
        Interrupted: a signal requested the end; the processes that were being renewed serve again.
    """
    machine.home.prepare()
    for program in programs:
        machine.processes_of(program)
    wanted = sorted(set(programs or machine.programs()))
    done: list[str] = []
    try:
        rest = [program for program in wanted if program not in _LAST]
        for first in range(0, len(rest), side_by_side):
            _Wave(machine, done).carry_out(rest[first : first + side_by_side])
        _Wave(machine, done).carry_out([program for program in _LAST if program in wanted])
    except OperationError as error:
        renewed = f"the roll has ended early, the others were left alone; renewed: {', '.join(done) or 'none'}"
        if isinstance(error, Interrupted):
            raise Interrupted(f"{error}: {renewed}. Remedy: roll again", error.number) from None
        raise OperationError(f"{renewed}. {error}") from None
    return done


def leave_out(machine: Machine, disabled: Collection[str]) -> list[str]:
    """End the processes of disabled providers, which could not start again; returns their names."""
    processes = [process for process in machine.supervisor.processes() if process.program in disabled]
    machine.carry_out(machine.drain(processes))
    for program in {process.program for process in processes}:
        write_count(machine.home, program, 0)
    return [process.process for process in processes]


class _EndsEarly(Exception):
    """Another program's failure ends the roll of this one."""


@dataclass
class _Wave:
    """Programs that are rolled side by side; ``done`` receives the names of the renewed processes. Those that are
    ``covered`` have a process that serves while another one drains."""

    machine: Machine
    done: list[str]
    covered: set[str] = field(default_factory=set)
    failure: OperationError | None = None

    def carry_out(self, programs: Collection[str]) -> None:
        """Roll these programs. After a failure, each of them finishes the process that it is renewing."""
        under_way = {program: self._roll(program, programs) for program in programs}
        while under_way:
            for program, steps in list(under_way.items()):
                if self._has_ended(steps):
                    del under_way[program]
            if under_way:
                self.machine.pause()
        if self.failure is not None:
            raise self.failure

    def _has_ended(self, steps: Steps) -> bool:
        """Carry out one step."""
        try:
            next(steps)
        except (StopIteration, _EndsEarly):
            return True
        except OperationError as error:
            self.failure = self.failure or error
            return True
        return False

    def _go_on(self) -> None:
        """To be called where a program's roll can end without leaving anything unfinished."""
        self.machine.interruption.check()
        if self.failure is not None:
            raise _EndsEarly

    def _roll(self, program: str, programs: Collection[str]) -> Steps:
        machine, count = self.machine, self.machine.count_of(program)
        try:
            processes = self._in_order(program, count)
            if not processes:
                self.covered.add(program)
            for process in processes:
                self._go_on()
                if program not in _LAST:
                    yield from self._see_that_another_serves(process, count)
                self.covered.add(program)
                while not self.covered.issuperset(programs):
                    self._go_on()
                    yield
                yield from machine.renew(process)
                self.done.append(process.process)
            yield from machine.serving(program, [process_name(program, number) for number in range(count)])
            yield from machine.drain(_stand_ins(machine, program, count))
        except Exception:
            with suppress(SupervisorAway):
                yield from _tidy(machine, program, count)
            raise

    def _in_order(self, program: str, count: int) -> list[ProcessStatus]:
        """The processes that the program should have; a missing one, as after an interrupted scale, is added."""
        machine = self.machine
        known = {number_of(process) for process in machine.processes_of(program)}
        for number in range(count):
            if number not in known:
                machine.add(program, number)
        processes = [process for process in machine.processes_of(program) if number_of(process) < count]
        return sorted(processes, key=machine.serves)

    def _see_that_another_serves(self, process: ProcessStatus, count: int) -> Steps:
        """Start a stand-in for a process if no other process serves its queue."""
        machine, program, name = self.machine, process.program, process.process
        processes = machine.processes_of(program)
        others = [other for other in processes if other.process != name]
        if any(map(machine.serves, others)) or not any(map(machine.serves, processes)):
            return
        if left_over := [other for other in others if number_of(other) >= count]:
            stand_in = left_over[0]
            yield from machine.revive(stand_in)
        else:
            stand_in = machine.add(program, max(map(number_of, processes)) + 1)
        yield from machine.serving(program, [stand_in.process], self._go_on)
        if not any(
            machine.serves(current)
            for current in machine.processes_of(program)
            if current.process == stand_in.process
        ):
            raise OperationError(
                f"{name} is not rolled: {stand_in.process}, which was to stand in for it, can send no calls. "
                f"Remedy: see `fleet status` for what keeps it from that, then `fleet roll {program}`"
            )


def _tidy(machine: Machine, program: str, count: int) -> Steps:
    """Start the processes that the roll stopped, and remove the stand-in if it is not needed."""
    processes = machine.processes_of(program)
    for process in processes:
        if number_of(process) < count and process.state == "STOPPED":
            machine.supervisor.start(process)
    stand_ins = _stand_ins(machine, program, count)
    if any(machine.serves(process) for process in processes if number_of(process) < count):
        yield from machine.drain(stand_ins)
    elif stand_ins:
        names = ", ".join(stand_in.process for stand_in in stand_ins)
        machine.say(f"{names} stays, as no other process of {program} serves; the next scale or roll takes it out")


def _stand_ins(machine: Machine, program: str, count: int) -> list[ProcessStatus]:
    return [process for process in machine.processes_of(program) if number_of(process) >= count]
