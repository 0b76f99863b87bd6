"""Replaces processes one at a time, and never leaves a queue without a poller.

If no other process of the program serves, a stand-in polls before a process drains, and ends when all processes of
the program are back: so the process names, and with them the owners of logs and journals, do not change. Processes
that do not serve come first, since nothing is lost with them. A stand-in has a number above the program's count,
so that the next roll recognizes one that an interrupted roll left behind.
"""

from collections.abc import Collection
from contextlib import suppress

from fleet.control.supervision.interrupt_handling import Interrupted
from fleet.control.supervision.machine_processes import Machine, number_of, process_name
from fleet.control.supervision.programs import write_count
from fleet.control.supervision.supervisord_client import ProcessStatus, SupervisorAway
from fleet.errors import OperationError

#: These are rolled last, since they keep the others running.
_LAST = ("backend", "control", "logs", "guardian")
_ALONE = frozenset(_LAST)


def roll(machine: Machine, programs: list[str]) -> list[str]:
    """Renew every process of these programs, or of all programs if none is named; returns the names of the renewed
    processes.

    Processes started from now on run the release that runs this code.

    Raises:
        OperationError: there is no such program, or a process did not come up; those after it were not touched.
        Interrupted: a signal requested the end; the process that was being renewed serves again.
    """
    machine.home.prepare()
    for program in programs:
        machine.processes_of(program)
    wanted = sorted(
        set(programs or machine.programs()),
        key=lambda program: (_LAST.index(program) if program in _LAST else -1, program),
    )
    done: list[str] = []
    try:
        for program in wanted:
            _roll_program(machine, program, done)
    except OperationError as error:
        renewed = f"the roll has ended early, the others were left alone; renewed: {', '.join(done) or 'none'}"
        if isinstance(error, Interrupted):
            raise Interrupted(f"{error}: {renewed}. Remedy: roll again", error.number) from None
        raise OperationError(f"{renewed}. {error}") from None
    return done


def leave_out(machine: Machine, disabled: Collection[str]) -> list[str]:
    """End the processes of disabled providers, which could not start again; returns their names."""
    processes = [process for process in machine.supervisor.processes() if process.program in disabled]
    machine.drain(processes)
    for program in {process.program for process in processes}:
        write_count(machine.home, program, 0)
    return [process.process for process in processes]


def _roll_program(machine: Machine, program: str, done: list[str]) -> None:
    count = machine.count_of(program)
    try:
        for process in _in_order(machine, program, count):
            machine.interruption.check()
            if program not in _ALONE:
                _see_that_another_serves(machine, process, count)
            machine.renew(process)
            done.append(process.process)
        machine.wait_until_serving(program, [process_name(program, number) for number in range(count)])
        machine.drain(_stand_ins(machine, program, count))
    except BaseException:
        with suppress(SupervisorAway):
            _tidy(machine, program, count)
        raise


def _in_order(machine: Machine, program: str, count: int) -> list[ProcessStatus]:
    """The processes that the program should have; a missing one, as after an interrupted scale, is added."""
    known = {number_of(process) for process in machine.processes_of(program)}
    for number in range(count):
        if number not in known:
            machine.add(program, number)
    processes = [process for process in machine.processes_of(program) if number_of(process) < count]
    return sorted(processes, key=machine.serves)


def _see_that_another_serves(machine: Machine, process: ProcessStatus, count: int) -> None:
    """Start a stand-in for a process if no other process serves its queue."""
    program, name = process.program, process.process
    processes = machine.processes_of(program)
    others = [other for other in processes if other.process != name]
    if any(map(machine.serves, others)) or not any(map(machine.serves, processes)):
        return
    if left_over := [other for other in others if number_of(other) >= count]:
        stand_in = left_over[0]
        machine.revive(stand_in)
    else:
        stand_in = machine.add(program, max(map(number_of, processes)) + 1)
    machine.wait_until_serving(program, [stand_in.process], interruptible=True)
    if not any(
        machine.serves(current) for current in machine.processes_of(program) if current.process == stand_in.process
    ):
        raise OperationError(
            f"{name} is not rolled: {stand_in.process}, which was to stand in for it, can send no calls. Remedy: "
            f"see `fleet status` for what keeps it from that, then `fleet roll {program}`"
        )


def _tidy(machine: Machine, program: str, count: int) -> None:
    """Start the processes that the roll stopped, and remove the stand-in if it is not needed."""
    processes = machine.processes_of(program)
    for process in processes:
        if number_of(process) < count and process.state == "STOPPED":
            machine.supervisor.start(process)
    stand_ins = _stand_ins(machine, program, count)
    if any(machine.serves(process) for process in processes if number_of(process) < count):
        machine.drain(stand_ins)
    elif stand_ins:
        names = ", ".join(stand_in.process for stand_in in stand_ins)
        machine.say(f"{names} stays, as no other process of {program} serves; the next scale or roll takes it out")


def _stand_ins(machine: Machine, program: str, count: int) -> list[ProcessStatus]:
    return [process for process in machine.processes_of(program) if number_of(process) >= count]
