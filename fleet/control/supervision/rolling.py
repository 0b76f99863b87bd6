"""New processes for old ones, one at a time, and never a queue without a poller.

Where no other process of the program serves, a stand-in polls before a process drains, and goes when all of the
program are back: the names, and with them logs and journals' owners, stay what they are. Processes that do not
serve come first, since nothing is lost with them. A stand-in has a number above the program's count, so that one
which an interrupted roll has left is known to the next.
"""

from contextlib import suppress

from fleet.control.supervision.interruptible import Interrupted
from fleet.control.supervision.machine_processes import Machine, number_of, process_name
from fleet.control.supervision.supervisord_client import ProcessStatus, SupervisorAway
from fleet.errors import OperationError

#: The order: those that keep the rest going come last.
_LAST = ("control", "logs", "guardian")
_ALONE = frozenset(_LAST)


def roll(machine: Machine, programs: list[str]) -> list[str]:
    """Renew every process of these programs, of all of them if none is named; the names of those renewed.

    What is started from now on is of the release that runs this.

    Raises:
        OperationError: there is no such program, or a process did not come up; those after it were left alone.
        Interrupted: a signal asked for the end; the process that was being renewed serves again.
    """
    machine.home.prepare()
    for program in programs:
        machine.processes_of(program)
    wanted = sorted(
        set(programs or machine.programs()), key=lambda one: (_LAST.index(one) if one in _LAST else -1, one)
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
    """Those that the program is to have; one that is missing, as after an interrupted scale, is added."""
    known = {number_of(process) for process in machine.processes_of(program)}
    for number in range(count):
        if number not in known:
            machine.add(program, number)
    processes = [one for one in machine.processes_of(program) if number_of(one) < count]
    return sorted(processes, key=machine.serves)


def _see_that_another_serves(machine: Machine, process: ProcessStatus, count: int) -> None:
    """Bring up a stand-in for a process if nobody else serves its queue."""
    program, name = process.program, process.process
    processes = machine.processes_of(program)
    others = [one for one in processes if one.process != name]
    if any(map(machine.serves, others)) or not any(map(machine.serves, processes)):
        return
    if left_over := [other for other in others if number_of(other) >= count]:
        stand_in = left_over[0]
        machine.revive(stand_in)
    else:
        stand_in = machine.add(program, max(map(number_of, processes)) + 1)
    machine.wait_until_serving(program, [stand_in.process], interruptible=True)
    if not any(machine.serves(one) for one in machine.processes_of(program) if one.process == stand_in.process):
        raise OperationError(
            f"{name} is not rolled: {stand_in.process}, which was to stand in for it, can send no calls. Remedy: "
            "see `fleet status` for what keeps it from that, then roll again"
        )


def _tidy(machine: Machine, program: str, count: int) -> None:
    """Start what the roll has stopped, and take out the stand-in if it is not needed."""
    processes = machine.processes_of(program)
    for process in processes:
        if number_of(process) < count and process.state == "STOPPED":
            machine.supervisor.start(process)
    stand_ins = _stand_ins(machine, program, count)
    if any(machine.serves(one) for one in processes if number_of(one) < count):
        machine.drain(stand_ins)
    elif stand_ins:
        names = ", ".join(one.process for one in stand_ins)
        machine.say(f"{names} stays, as no other process of {program} serves; the next scale or roll takes it out")


def _stand_ins(machine: Machine, program: str, count: int) -> list[ProcessStatus]:
    return [process for process in machine.processes_of(program) if number_of(process) >= count]
