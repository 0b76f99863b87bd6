"""A worker killed at random, every ten seconds, by the clock."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.soak.answers import Kill, open_calls
from fleet.control.supervision.supervisord_client import ProcessStatus, Supervisor, SupervisorAway
from fleet.control.supervision.supervisord_home import Home
from fleet.process.process_id import start_ticks
from tests.waiting import wait_for

#: A task that was on its way to a process when that was killed comes back after the heartbeat timeout, by default
#: three minutes: nobody had noted it yet. A soak is shorter than that.
ENVIRONMENT = {"FLEET_HEARTBEAT_TIMEOUT_SECONDS": "30", "FLEET_HEARTBEAT_INTERVAL_SECONDS": "10"}
EACH_SECONDS = 10.0
#: How long supervisord, with all that it keeps, may take to be there again.
RESTART_SECONDS = 120.0
WORKERS = ("pipeline", "assistants", "openai", "anthropic", "gemini")
_LOOK_SECONDS = 0.1
_DEATH_SECONDS = 5.0


@dataclass
class Killer:
    """Kills whatever worker chance names: one that has just begun, drains or stands in for another, too."""

    states: Sequence[Path]
    chance: random.Random
    say: Callable[[str], None]
    kills: list[Kill] = field(default_factory=list)

    def run(self, over: threading.Event) -> None:
        """Until it is over.

        Raises:
            AssertionError: there was nobody to be killed for longer than supervisord may take to restart.
        """
        due = time.monotonic() + EACH_SECONDS
        while not over.wait(max(due - time.monotonic(), 0)):
            given_up = time.monotonic() + RESTART_SECONDS
            while not self._kill_one():
                assert time.monotonic() < given_up, f"no worker to be killed for {RESTART_SECONDS:g} s"
                if over.wait(_LOOK_SECONDS):
                    return
            due = max(due + EACH_SECONDS, time.monotonic())

    def _kill_one(self) -> bool:
        victims = self._workers()
        if not victims:
            return False
        state, victim = self.chance.choice(victims)
        assert victim.pid is not None
        at = time.time()
        try:
            os.kill(victim.pid, signal.SIGKILL)
        except ProcessLookupError:
            return False  # it has left by itself
        wait_for(f"{victim.process} is gone", lambda: start_ticks(victim.pid or 0) is None, _DEATH_SECONDS)
        cut = open_calls(state, victim.pid) if victim.program not in ("pipeline", "assistants") else frozenset()
        self.kills.append(Kill(victim.process, at, cut))
        where = f" of {state.name}" if len(self.states) > 1 else ""
        self.say(f"kill {victim.process}{where} ({victim.state}, {len(cut)} calls in the air)")
        return True

    def _workers(self) -> list[tuple[Path, ProcessStatus]]:
        """Those of all machines, each with its state folder."""
        found: list[tuple[Path, ProcessStatus]] = []
        for state in self.states:
            try:
                processes = Supervisor(Home.at(state).socket).processes()
            except SupervisorAway:
                continue
            found += [
                (state, process) for process in processes if process.program in WORKERS and process.pid is not None
            ]
        return found
