"""A machine in a test's hand: its supervisord, its processes and its time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from fleet.control.supervision.interrupt_handling import Interruption
from fleet.control.supervision.machine_processes import Machine
from fleet.control.supervision.operation_waits import ShowWaits
from fleet.control.supervision.programs import processes_of, write_count
from fleet.control.supervision.supervisord_client import ProcessStatus
from fleet.control.supervision.supervisord_home import Home

BOOT_SECONDS, DRAIN_SECONDS = 2.0, 1.0
#: Above every pid that a kernel gives out.
_pids = count(10_000_000)


class OperatorGone(BaseException):
    """The process that operates has been killed: it does nothing any more."""


@dataclass
class Process:
    program: str
    state: str = "RUNNING"
    pid: int | None = field(default_factory=lambda: next(_pids))
    serves_at: float = 0.0
    ended_at: float = 0.0

    def spawn(self, now: float) -> None:
        self.state, self.pid, self.serves_at = "STARTING", next(_pids), now + BOOT_SECONDS


class World:
    """supervisord as far as it matters here, in virtual time. ``broken`` names what ends as soon as it is started;
    ``at`` is what happens when. ``fewest`` is how few of a program served at any moment."""

    def __init__(self, folder: Path, **counts: int) -> None:
        self.home = Home.at(folder / "state")
        self.home.prepare()
        self.now = 0.0
        self.drain_seconds = DRAIN_SECONDS
        self.gone = False
        self.broken: set[str] = set()
        self.at: list[tuple[float, Callable[[], None]]] = []
        self.said: list[str] = []
        self.interruption = Interruption()
        self.processes_by_name: dict[str, Process] = {}
        for program, number in counts.items():
            write_count(self.home, program, number)
            for each in range(number):
                self.processes_by_name[f"{program}_{each:02d}"] = Process(program)
        self.fewest = {program: self.serving(program) for program in counts}

    def machine(self, show_waits: ShowWaits | None = None) -> Machine:
        return Machine(
            self.home,
            self.said.append,
            self.interruption,
            show_waits=show_waits,
            supervisor=self,  # type: ignore[arg-type]
            looks_well=lambda home, process: self.serves(process.process),
            clock=lambda: self.now,
            sleep=self.sleep,
        )

    def serves(self, name: str) -> bool:
        process = self.processes_by_name[name]
        return process.state in ("RUNNING", "STARTING") and self.now >= process.serves_at

    def serving(self, program: str) -> int:
        return sum(
            process.program == program and self.serves(name) for name, process in self.processes_by_name.items()
        )

    def in_order(self, program: str) -> bool:
        """Whether exactly those run and serve that ``programs.d`` asks for."""
        wanted = processes_of(self.home.programs / f"{program}.conf", program)
        names = {name for name, process in self.processes_by_name.items() if process.program == program}
        return names == {f"{program}_{number:02d}" for number in range(wanted)} and all(map(self.serves, names))

    def pids(self) -> dict[str, int | None]:
        return {name: process.pid for name, process in self.processes_by_name.items()}

    def die(self, name: str) -> None:
        """SIGKILL from elsewhere, to a process that may be there."""
        process = self.processes_by_name.get(name)
        if process is not None and process.pid is not None:
            process.state = "STOPPED" if process.state == "STOPPING" else "EXITED"
            process.pid = None

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for name, process in self.processes_by_name.items():
            self._advance(name, process)
        due = [what for moment, what in self.at if moment <= self.now]
        self.at = [(moment, what) for moment, what in self.at if moment > self.now]
        for what in due:
            what()
        self._watch()
        self._refuse_the_dead()

    def settle(self) -> None:
        """Let what is under way come to its end."""
        self.gone = False
        for _ in range(40):
            self.sleep(0.5)

    def _advance(self, name: str, process: Process) -> None:
        if process.state == "STOPPING" and self.now >= process.ended_at:
            process.state, process.pid = "STOPPED", None
        elif process.state == "EXITED":
            process.spawn(self.now)
        elif process.state == "STARTING" and name in self.broken:
            process.state, process.pid = "FATAL", None

    def _watch(self) -> None:
        for program in self.fewest:
            self.fewest[program] = min(self.fewest[program], self.serving(program))

    def _refuse_the_dead(self) -> None:
        if self.gone:
            raise OperatorGone

    # What fleet.control.supervision.supervisord_client.Supervisor offers.

    def processes(self) -> list[ProcessStatus]:
        self._refuse_the_dead()
        return [
            ProcessStatus(process.program, name, process.state, process.pid, 0)
            for name, process in sorted(self.processes_by_name.items())
        ]

    def start(self, process: ProcessStatus) -> None:
        self._refuse_the_dead()
        known = self.processes_by_name[process.process]
        if known.state in ("STOPPED", "EXITED", "FATAL"):
            known.spawn(self.now)

    def stop(self, process: ProcessStatus) -> None:
        self._refuse_the_dead()
        known = self.processes_by_name[process.process]
        if known.state in ("RUNNING", "STARTING"):
            known.state, known.ended_at = "STOPPING", self.now + self.drain_seconds
        self._watch()

    def add_process(self, program: str, section: dict[str, str]) -> None:
        self._refuse_the_dead()
        name = f"{program}_{int(section['numprocs_start']):02d}"
        assert name not in self.processes_by_name, "supervisord refuses a name that is there"
        self.processes_by_name[name] = Process(program, "STOPPED", None)

    def remove_process(self, process: ProcessStatus) -> None:
        self._refuse_the_dead()
        state = self.processes_by_name.pop(process.process).state
        assert state in ("STOPPED", "FATAL"), "supervisord would start one that has exited, and lose it"
