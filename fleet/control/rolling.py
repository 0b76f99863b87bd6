"""New processes for old ones, one at a time, and never a queue without a poller.

Where a program has one process only, a second one polls before the first drains, and goes when the first is back:
the names, and with them logs and journals' owners, stay what they are.
"""

from fleet.control.scaling import Machine
from fleet.control.supervisor import ProcessStatus
from fleet.errors import OperationError

#: The order: those that keep the rest going come last.
_LAST = ("control", "logs", "guardian")
_ALONE = frozenset(_LAST)


def roll(machine: Machine, programs: list[str]) -> list[str]:
    """Renew every process of these programs, of all of them if none is named; the names of those renewed.

    Raises:
        OperationError: there is no such program, or a process did not come up; those after it were left alone.
    """
    known = machine.programs()
    for program in programs:
        machine.processes_of(program)
    wanted = sorted(programs or known, key=lambda one: (_LAST.index(one) if one in _LAST else -1, one))
    done: list[str] = []
    for program in wanted:
        try:
            done += _roll_program(machine, program)
        except OperationError as error:
            left = f"renewed so far: {', '.join(done) or 'none'}"
            raise OperationError(
                f"{error}. The roll has ended there; {left}, the others were left alone"
            ) from None
    return done


def _roll_program(machine: Machine, program: str) -> list[str]:
    processes = machine.processes_of(program)
    if program in _ALONE or len(processes) > 1:
        return [_renew(machine, process) for process in processes]
    name = machine.add(program, _free_number(processes))
    second = [one for one in machine.processes_of(program) if one.process == name]
    try:
        machine.wait_until_serving(program, [name])
    except OperationError:
        machine.drain(second)  # the old one polls on
        raise
    renewed = [_renew(machine, process) for process in processes]  # if it stays away, the second polls on
    machine.drain(second)
    return renewed


def _renew(machine: Machine, process: ProcessStatus) -> str:
    """Let one process drain, and start it anew."""
    machine.renew(process)
    return process.process


def _free_number(processes: list[ProcessStatus]) -> int:
    return max(int(one.process.rpartition("_")[2]) for one in processes) + 1
