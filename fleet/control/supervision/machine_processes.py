"""Adds, renews and drains the processes of one machine, while the others keep running.

A process may die at any moment, and supervisord starts it again: the operations here wait for that, and give up
only on a process that does not come up.

What takes time is an iterator of steps, so that several operations can be carried out side by side: each step
looks at the processes once, and :meth:`Machine.pause` comes between two looks.
"""

import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fleet.control.supervision.interrupt_handling import Interruption
from fleet.control.supervision.operation_waits import ShowWaits, Wait, WaitLines
from fleet.control.supervision.process_health import comes_up, liveness_of, serves
from fleet.control.supervision.programs import processes_of, program_section
from fleet.control.supervision.supervisord_client import AT_REST, ProcessStatus, Supervisor
from fleet.control.supervision.supervisord_home import Home
from fleet.errors import OperationError
from fleet.process.liveness import LONGEST_START_SECONDS

_LOOK_SECONDS = 0.2

Say = Callable[[str], None]
Steps = Iterator[None]


class Machine:
    """The programs of one machine. Supervisor, clock and the checks of liveness can be replaced. ``show_waits`` is
    called at each look with what is waited for; by default a long wait is said now and then."""

    def __init__(
        self,
        home: Home,
        say: Say,
        interruption: Interruption | None = None,
        *,
        show_waits: ShowWaits | None = None,
        supervisor: Supervisor | None = None,
        looks_well: Callable[[Home, ProcessStatus], bool] = serves,
        looks_up: Callable[[Home, ProcessStatus], bool] = comes_up,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.home = home
        self.supervisor = supervisor or Supervisor(home.socket)
        self.interruption = interruption or Interruption()
        self._say = say
        self._looks_well = looks_well
        self._looks_up = looks_up
        self._clock = clock
        self._sleep = sleep
        self._show_waits = show_waits or WaitLines(self.say)
        self._waits: list[Wait] = []

    def say(self, text: str) -> None:
        """Print a message to the operator, whose terminal may be gone: that must not leave an operation half
        done."""
        with suppress(OSError, SystemExit):  # rich raises the latter for a broken pipe
            self._say(text)

    def programs(self) -> list[str]:
        """Every program that has processes.

        Raises:
            SupervisorAway: supervisord does not answer. Every method that asks supervisord raises it.
        """
        return sorted({process.program for process in self.supervisor.processes()})

    def processes_of(self, program: str) -> list[ProcessStatus]:
        """The program's processes, by name.

        Raises:
            OperationError: there is no such program.
        """
        found = [process for process in self.supervisor.processes() if process.program == program]
        if not found:
            raise OperationError(
                f"there is no program {program!r:.100}. Remedy: name one of {', '.join(self.programs())}"
            )
        return found

    def count_of(self, program: str) -> int:
        """How many processes the program should have.

        Raises:
            OperationError: the program's file cannot be read.
        """
        return processes_of(self.home.programs / f"{program}.conf", program)

    def serves(self, process: ProcessStatus) -> bool:
        """Whether a process serves."""
        return self._looks_well(self.home, process)

    def is_up(self, process: ProcessStatus) -> bool:
        """Whether a process serves, or would serve if calls could be sent from this machine."""
        return self.serves(process) or self._looks_up(self.home, process)

    def add(self, program: str, number: int) -> ProcessStatus:
        """Start one more process."""
        section = program_section(self.home, program)
        self.supervisor.add_process(program, section | {"numprocs": "1", "numprocs_start": str(number)})
        name = process_name(program, number)
        self.say(f"starting {name} ...")
        process = next(found for found in self.processes_of(program) if found.process == name)
        self.supervisor.start(process)
        return process

    def pause(self) -> None:
        """Show what is waited for, and wait until it is worth looking again."""
        with suppress(OSError):
            self._show_waits([*self._waits], self._clock())
        self._sleep(_LOOK_SECONDS)

    @contextmanager
    def _waiting(self, to: str) -> Iterator[Wait]:
        """Within the block, the operation waits for processes ``to`` do this."""
        wait = Wait(to, self._clock())
        self._waits.append(wait)
        try:
            yield wait
        finally:
            self._waits.remove(wait)

    def carry_out(self, steps: Steps) -> None:
        """Carry out an operation alone."""
        for _ in steps:
            self.pause()

    def revive(self, process: ProcessStatus) -> Steps:
        """Start a process, also one that is stopping; ends before it serves."""
        if process.state == "STOPPING":
            yield from self.stopped([process])
        self.supervisor.start(process)

    def drain(self, processes: Collection[ProcessStatus]) -> Steps:
        """Have processes finish their calls, in parallel, and remove them from their groups."""
        for process in processes:
            self.say(f"draining {process.process} ...")
            self.supervisor.stop(process)
        yield from self.stopped(processes)
        for process in processes:
            self.supervisor.remove_process(process)

    def renew(self, process: ProcessStatus) -> Steps:
        """Drain a process, start it again, and wait until it serves.

        Raises:
            OperationError: it does not come up.
        """
        self.say(f"renewing {process.process} ...")
        self.supervisor.stop(process)
        yield from self.stopped([process])
        self.supervisor.start(process)
        yield from self.serving(process.program, [process.process])

    def stopped(self, processes: Collection[ProcessStatus]) -> Steps:
        """Wait until these processes have ended for good; supervisord kills one that has not ended after
        ``stopwaitsecs``.

        A process that died just before it was told to stop is restarted by supervisord: it is told to stop again.
        """
        names = {process.process for process in processes}
        with self._waiting("finish the calls in flight") as wait:
            while late := [
                process
                for process in self.supervisor.processes()
                if process.process in names and process.state not in AT_REST
            ]:
                wait.names = [process.process for process in late]
                for process in late:
                    if process.state != "STOPPING":
                        self.supervisor.stop(process)
                    elif missed_its_signal(self.home, process):
                        self.supervisor.signal(process, "TERM")
                yield

    def serving(self, program: str, names: Collection[str], go_on: Callable[[], None] = lambda: None) -> Steps:
        """Wait until these processes poll their queues, or probe whether calls can be sent; a process that dies is
        waited for. ``go_on`` is called at each look, and raises where the wait may end early.

        Raises:
            OperationError: one does not within two minutes, or supervisord has given it up.
        """
        given_up = self._clock() + LONGEST_START_SECONDS
        with self._waiting("serve") as wait:
            while True:
                found = {process.process: process for process in self.processes_of(program)}
                missing = [name for name in names if name not in found or not self.is_up(found[name])]
                if not missing:
                    return
                go_on()
                broken = [name for name in missing if name in found and found[name].state == "FATAL"]
                if broken or self._clock() > given_up:
                    raise self._stays_away((broken or missing)[0], found)
                wait.names = missing
                yield

    def _stays_away(self, name: str, found: dict[str, ProcessStatus]) -> OperationError:
        how = f"{found[name].state} {found[name].said}".rstrip() if name in found else "it is gone"
        return OperationError(
            f"{name} does not come up ({how}). Remedy: read {self.home.logs / name}.stdout.log and the log of "
            f"{name} (`fleet logs --process {name}`)"
        )


def process_name(program: str, number: int) -> str:
    """The name of a process in supervisord.conf."""
    return f"{program}_{number:02d}"


def number_of(process: ProcessStatus) -> int:
    """The number in a process's name; 0 if there is none."""
    digits = process.process.rpartition("_")[2]
    return int(digits) if digits.isdecimal() else 0


def missed_its_signal(home: Home, process: ProcessStatus) -> bool:
    """Whether the process has no handler for SIGTERM yet, and so cannot be draining.

    supervisord's SIGTERM is lost on a child that was forked and is not yet the program. Such a child has nothing
    in flight: a worker installs its handlers before it connects. A process whose liveness record says that it
    drains has received the signal; if it has no handler any more, it has finished its work and is about to exit.
    Source: proc(5), SigCgt.
    """
    liveness = liveness_of(home, process)
    if liveness is not None and liveness.stage == "draining":
        return False
    try:
        lines = Path("/proc", str(process.pid), "status").read_text("utf-8").splitlines()
    except OSError:
        return False
    caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
    return not int(caught, 16) >> (signal.SIGTERM - 1) & 1
