"""How many processes a program has, changed while the others run on.

supervisord would restart a whole group whose ``numprocs`` changes; so single processes are added to and removed
from the running group, and the number is written to ``programs.d``, where supervisord finds it at its next start.
"""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fleet.control.home import Home
from fleet.control.programs import program_section, write_count
from fleet.control.pulses import serves
from fleet.control.supervisor import ProcessStatus, Supervisor
from fleet.errors import OperationError

MOST_PROCESSES = 64
_READY_SECONDS = 60.0
_LOOK_SECONDS = 0.2
_UNSCALABLE = frozenset({"control", "guardian", "logs"})

Say = Callable[[str], None]


@contextmanager
def operating(home: Home) -> Iterator[None]:
    """Keep two operators from changing the processes of one machine at once.

    Raises:
        OperationError: somebody else is at it.
    """
    with (home.state / "operate.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OperationError(
                f"somebody else is scaling or rolling in {home.state}. Remedy: wait until that has ended"
            ) from None
        yield


class Machine:
    """The programs of one machine, to be scaled and rolled."""

    def __init__(self, home: Home, say: Say) -> None:
        self.home = home
        self.supervisor = Supervisor(home.socket)
        self._say = say

    def programs(self) -> list[str]:
        """Every program that has processes.

        Raises:
            SupervisorAway: no supervisord answers.
        """
        return sorted({process.program for process in self.supervisor.processes()})

    def processes_of(self, program: str) -> list[ProcessStatus]:
        """Its processes, by name.

        Raises:
            OperationError: there is no such program.
        """
        found = [one for one in self.supervisor.processes() if one.program == program]
        if not found:
            raise OperationError(
                f"there is no program {program!r}. Remedy: name one of {', '.join(self.programs())}"
            )
        return found

    def scale(self, program: str, count: int) -> None:
        """Have that many processes; those that stay are not touched, those that go drain first.

        Raises:
            OperationError: there is no such program, it always has one process, or a new one does not come up.
        """
        processes = self.processes_of(program)
        if program in _UNSCALABLE:
            raise OperationError(f"{program} always has one process. Remedy: scale another program")
        if not 1 <= count <= MOST_PROCESSES:
            raise OperationError(
                f"{program} can have 1 to {MOST_PROCESSES} processes, not {count}. Remedy: to hand out no calls "
                "use `fleet pause`"
            )
        names = [_name(program, number) for number in range(count)]
        known = {one.process for one in processes}
        fresh = [name for name in names if name not in known]
        for name in fresh:
            self.add(program, int(name.rpartition("_")[2]))
        write_count(self.home, program, count)
        for process in processes:
            if process.process in names and process.pid is None:
                self.supervisor.start(process)
        self.wait_until_serving(program, names)
        self.drain([process for process in processes if process.process not in names])

    def add(self, program: str, number: int) -> str:
        """Start one process more; its name."""
        section = program_section(self.home, program)
        self.supervisor.add_process(program, section | {"numprocs": "1", "numprocs_start": str(number)})
        name = _name(program, number)
        self._say(f"starting {name} ...")
        self.supervisor.start(next(one for one in self.processes_of(program) if one.process == name))
        return name

    def drain(self, processes: list[ProcessStatus]) -> None:
        """Have processes end their calls, all at once, and take them out of their groups."""
        for process in processes:
            self._say(f"draining {process.process} ...")
            self.supervisor.stop(process)
        self.wait_until_stopped(processes)
        for process in processes:
            self.supervisor.remove_process(process)

    def renew(self, process: ProcessStatus) -> None:
        """Let a process drain, start it anew, and wait until it serves.

        Raises:
            OperationError: it does not come up.
        """
        self._say(f"renewing {process.process} ...")
        self.supervisor.stop(process)
        self.wait_until_stopped([process])
        self.supervisor.start(process)
        self.wait_until_serving(process.program, [process.process])

    def wait_until_stopped(self, processes: list[ProcessStatus]) -> None:
        """supervisord kills what has not ended after ``stopwaitsecs``, so this ends."""
        names = {process.process for process in processes}
        while any(one.process in names and one.pid is not None for one in self.supervisor.processes()):
            time.sleep(_LOOK_SECONDS)

    def wait_until_serving(self, program: str, names: list[str]) -> None:
        """Until these processes poll their queues.

        Raises:
            OperationError: one does not within a minute.
        """
        given_up = time.monotonic() + _READY_SECONDS
        while True:
            processes = [one for one in self.processes_of(program) if one.process in names]
            missing = [one for one in processes if not serves(self.home, one)]
            if not missing:
                return
            broken = [one for one in missing if one.state == "FATAL"]
            if broken or time.monotonic() > given_up:
                worst = (broken or missing)[0]
                raise OperationError(
                    f"{worst.process} does not come up ({worst.state} {worst.said}".rstrip()
                    + f"). Remedy: read {self.home.logs / worst.process}.log and .stdout.log beside it"
                )
            time.sleep(_LOOK_SECONDS)


def _name(program: str, number: int) -> str:
    return f"{program}_{number:02d}"
