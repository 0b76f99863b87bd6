"""What is done to a fleet while pipelines run."""

import asyncio
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from temporalio.client import Client, WorkflowFailureError

from bench.soak.answers import Told, sent_again, told_by
from bench.soak.kills import RESTART_SECONDS, Killer
from bench.soak.machines import CUTS_AT, FurtherMachine
from bench.soak.poller_gaps import Presence, longest_gaps
from fleet.contracts import PIPELINE_QUEUE, WORKFLOW_TYPE
from fleet.control.supervision.supervisord_client import ProcessStatus, Supervisor, SupervisorAway
from fleet.control.supervision.supervisord_home import Home
from tests.fleet import Fleet
from tests.waiting import wait_for

AT_ONCE = 3
QUEUES = ("pipeline", "control", "assistants", "llm-openai", "llm-anthropic", "llm-gemini")
MAX_SECONDS_WITHOUT_POLLER = 15.0
#: Fewer show nothing.
MIN_PIPELINES, MIN_KILLS, CALLS_A_PIPELINE = 11, 3, 8
#: When each step begins, as a share of the time; one that is late begins at once.
DUE = (0.03, 0.1, 0.5, 0.6, 0.65)
_LOOK_SECONDS = 0.2
_PIPELINE_SECONDS = 300.0


@dataclass
class Soak:
    """One run. Whatever goes wrong, in whichever thread, is a line of ``trouble``."""

    fleet: Fleet
    seconds: float
    chance: random.Random
    say: Callable[[str], None]
    further: list[FurtherMachine] = field(default_factory=list)
    completed: int = 0
    failed: int = 0
    scales: int = 0
    rolls: int = 0
    told: dict[str, Told] = field(default_factory=dict)
    restarts: list[tuple[float, float]] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    stepped: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.supervisor = Supervisor(Home.at(self.fleet.state).socket)
        states = [self.fleet.state, *(machine.fleet.state for machine in self.further)]
        self.killer = Killer(states, self.chance, self.say)
        self.presence = Presence(self.fleet.state)

    def run(self) -> dict[str, Any]:
        """All of it, until the last pipeline has ended; the last line."""
        looking = self._beside("looking", self._look)
        wait_for("every queue is polled", lambda: self.presence.polled(QUEUES, 0.0), RESTART_SECONDS)
        began = time.time()
        operating = self._beside("operating", self._operate)
        others = [self._beside("killing", lambda: self.killer.run(self.stepped))]
        for machine in self.further:
            chance = random.Random(self.chance.random())
            cut = partial(machine.run, self.stepped, self.seconds, chance)
            others.append(self._beside(f"machine {machine.number}", cut))
        self._guarded("pipelines", lambda: asyncio.run(self._pipelines()))
        ended = time.time()
        self.stepped.set()
        self.over.set()
        for thread in (operating, looking, *others):
            thread.join()
        return self._result(began, ended)

    def _beside(self, what: str, run: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=self._guarded, args=(what, run), name=what, daemon=True)
        thread.start()
        return thread

    def _guarded(self, what: str, run: Callable[[], None]) -> None:
        try:
            run()
        except Exception as error:
            self.trouble.append(f"{what} ended early: {type(error).__name__}: {error}")

    # Pipelines.

    async def _pipelines(self) -> None:
        client = await self.fleet.client()
        await asyncio.gather(*(self._one_after_another(client) for _ in range(AT_ONCE)))

    async def _one_after_another(self, client: Client) -> None:
        while not self.stepped.is_set():
            name = f"soak-{uuid.uuid4().hex[:10]}"
            arguments = ["Jak vybrat kávovar", "seo-demo", "", ""]
            try:
                async with asyncio.timeout(_PIPELINE_SECONDS):
                    result = await client.execute_workflow(
                        WORKFLOW_TYPE, args=arguments, id=name, task_queue=PIPELINE_QUEUE
                    )
                self.told |= told_by(name, result)
                self.completed += 1
            except WorkflowFailureError as error:
                self.failed += 1
                self.trouble.append(f"{name} failed: {error.cause}")
            except TimeoutError:
                self.failed += 1
                self.trouble.append(f"{name} did not complete within {_PIPELINE_SECONDS:g} s")

    # Steps.

    def _operate(self) -> None:
        """1 → 4 → 2, everything rolled twice, supervisord restarted once, each at its time."""
        program = self.chance.choice(["openai", "anthropic", "gemini"])
        began = time.monotonic()
        steps: list[Callable[[], None]] = [
            lambda: self._scale(program, 4),
            self._roll,
            lambda: self._restart(program, 4),
            lambda: self._scale(program, 2),
            self._roll,
        ]
        try:
            for due, step in zip(DUE, steps, strict=True):
                if self.over.wait(max(began + due * self.seconds - time.monotonic(), 0)):
                    return  # the pipelines have ended early, and say why
                step()
            self.over.wait(max(began + self.seconds - time.monotonic(), 0))
        finally:
            self.stepped.set()

    def _scale(self, program: str, count: int) -> None:
        self._command("scale", program, str(count))
        self._expect(program, count)
        self.scales += 1

    def _roll(self) -> None:
        before = self._pids()
        self._command("roll")
        kept = before & self._pids()
        assert not kept, f"a roll left {len(kept)} old processes"
        self._expect_no_drift()
        self.rolls += 1

    def _command(self, *arguments: str) -> None:
        began = time.monotonic()
        self.say(f"fleet {' '.join(arguments)}")
        done = self.fleet.fleet(*arguments)
        assert done.returncode == 0, f"fleet {' '.join(arguments)}: {done.stdout} {done.stderr}"
        self.say(f"fleet {' '.join(arguments)}: done within {time.monotonic() - began:.1f} s")

    def _restart(self, program: str, count: int) -> None:
        """Restart supervisord: the number must outlive it."""
        before = self._pids()
        began = time.time()
        self.say("supervisorctl reload")
        done = self.fleet.supervisorctl("reload")
        assert done.returncode == 0, done.stdout + done.stderr
        wait_for("all processes are new", lambda: self._all_new(before), RESTART_SECONDS)
        wait_for("every queue is polled", lambda: self.presence.polled(QUEUES, began), RESTART_SECONDS)
        self.restarts.append((began, time.time()))
        self.say(f"supervisord and all its processes are back after {time.time() - began:.1f} s")
        self._expect(program, count)

    def _expect(self, program: str, count: int) -> None:
        names = {process.process for process in self._processes() if process.program == program}
        assert names == {f"{program}_{number:02d}" for number in range(count)}, f"{program} has {sorted(names)}"
        self._expect_no_drift()

    def _expect_no_drift(self) -> None:
        said = self.fleet.supervisorctl("reread").stdout
        assert "No config updates" in said, f"supervisorctl reread: {said}"

    # Looking.

    def _look(self) -> None:
        while not self.over.wait(_LOOK_SECONDS):
            self.presence.look()

    def _processes(self) -> list[ProcessStatus]:
        try:
            return self.supervisor.processes()
        except SupervisorAway:
            return []

    def _pids(self) -> set[int]:
        return {process.pid for process in self._processes() if process.pid is not None}

    def _all_new(self, before: Iterable[int]) -> bool:
        now = self._pids()
        return bool(now) and not now & set(before)

    def _result(self, began: float, ended: float) -> dict[str, Any]:
        calls = self.fleet.simulator.ledger()
        again = sent_again(calls, self.killer.kills, self.told)
        gaps = longest_gaps(self.presence.spans.values(), QUEUES, began, ended, self.restarts)
        if (self.scales, self.rolls, len(self.restarts)) != (2, 2, 1):
            self.trouble.append("not every step has been done")
        for machine in self.further:
            if (machine.cuts, machine.rolls) != (len(CUTS_AT), 1):
                self.trouble.append(
                    f"machine {machine.number} was cut off {machine.cuts} times and rolled {machine.rolls} times"
                )
        if self.completed < MIN_PIPELINES or len(self.killer.kills) < MIN_KILLS:
            self.trouble.append(f"only {self.completed} pipelines and {len(self.killer.kills)} kills")
        if len(calls) < CALLS_A_PIPELINE * self.completed:
            self.trouble.append(f"{self.completed} pipelines completed with {len(calls)} calls")
        if again.answered:
            self.trouble.append(f"{again.answered} calls were sent again although they had been answered")
        for queue, seconds in gaps.items():
            if seconds > MAX_SECONDS_WITHOUT_POLLER:
                self.trouble.append(f"{queue} had no poller for {seconds:.1f} s")
        return {
            "pipelines": self.completed + self.failed,
            "completed": self.completed,
            "failed": self.failed,
            "calls": len(calls),
            "answered_and_sent_again": again.answered,
            "cut_off_in_the_answer": again.cut_off_in_the_answer,
            "kills": len(self.killer.kills),
            "scales": self.scales,
            "rolls": self.rolls,
            "restarts": len(self.restarts),
            "machines": 1 + len(self.further),
            "cuts": sum(machine.cuts for machine in self.further),
            "max_seconds_without_poller": {queue: round(seconds, 1) for queue, seconds in sorted(gaps.items())},
        }
