"""Changes how many processes a program has, while the others keep running.

supervisord would restart a whole group if its ``numprocs`` changed. So single processes are added to and removed
from the running group, and the number is written to ``programs.d``, where supervisord finds it at its next start.
It is written once all processes that stay serve; until then a failure, or a signal, leaves everything unchanged.
"""

import fcntl
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from fleet.control.supervision.interrupt_handling import Interrupted
from fleet.control.supervision.machine_processes import Machine, process_name
from fleet.control.supervision.programs import write_count
from fleet.control.supervision.supervisord_client import SupervisorAway
from fleet.control.supervision.supervisord_home import Home
from fleet.errors import OperationError

MAX_PROCESSES = 64
_UNSCALABLE = frozenset({"backend", "control", "guardian", "logs"})


@contextmanager
def operating(home: Home) -> Iterator[None]:
    """Keep two operators from changing the processes of one machine at the same time.

    Raises:
        OperationError: another operator is scaling or rolling, or there is no usable state folder.
    """
    try:
        lock = (home.state / "operate.lock").open("w")
    except FileNotFoundError:
        raise OperationError(
            f"no fleet is up in {home.state}. Remedy: start one with `fleet up`, or set FLEET_STATE_DIR to its "
            "state folder"
        ) from None
    except OSError as error:
        raise OperationError(
            f"{home.state / 'operate.lock'} cannot be opened ({error.strerror}). Remedy: run this as the user who "
            "runs the fleet"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OperationError(
                f"somebody else is scaling or rolling in {home.state}. Remedy: wait until that has ended"
            ) from None
        yield


def scale(machine: Machine, program: str, count: int) -> None:
    """Set the number of processes; those that stay are not touched, the others drain first.

    Raises:
        OperationError: there is no such program, it always has one process, or a process that should stay does
            not serve; then everything is as before.
        Interrupted: a signal came before the number was changed; everything is as before.
    """
    processes = machine.processes_of(program)
    _refuse(program, count)
    known = {process.process for process in processes}
    names = [process_name(program, number) for number in range(count)]
    try:
        for number, name in enumerate(names):
            if name not in known:
                machine.add(program, number)
        for process in processes:
            if process.process in names:
                machine.carry_out(machine.revive(process))
        machine.carry_out(machine.serving(program, names, machine.interruption.check))
        _write(machine.home, program, count)
    except OperationError as error:
        _undo(machine, program, known)
        said = f"{program} keeps its {len(known)} process{'es' if len(known) > 1 else ''}: {error}"
        if isinstance(error, Interrupted):
            raise Interrupted(f"{said}. Remedy: run the command again", error.number) from None
        raise OperationError(said) from None
    machine.carry_out(machine.drain([process for process in processes if process.process not in names]))


def _refuse(program: str, count: int) -> None:
    if program in _UNSCALABLE:
        raise OperationError(f"{program} always has one process. Remedy: scale another program")
    if not 1 <= count <= MAX_PROCESSES:
        raise OperationError(
            f"{program} can have 1 to {MAX_PROCESSES} processes, not {count}. Remedy: name such a number; "
            f"`fleet pause {program}` stops a provider's calls"
        )


def _write(home: Home, program: str, count: int) -> None:
    try:
        write_count(home, program, count)
    except OSError as error:
        raise OperationError(
            f"{home.programs / program}.conf cannot be written ({error.strerror}). Remedy: make room, or correct "
            "the folder's owner"
        ) from None


def _undo(machine: Machine, program: str, known: Collection[str]) -> None:
    """Remove the processes that were added."""
    with suppress(SupervisorAway):
        added = [process for process in machine.processes_of(program) if process.process not in known]
        machine.carry_out(machine.drain(added))
