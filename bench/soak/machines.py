"""Further machines of a soak: fleets with a state folder and a clock of their own on the first one's servers,
whose way to the Temporal server is cut now and then."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from bench.soak.kills import RESTART_SECONDS
from fleet.control.supervision.supervisord_client import Supervisor, SupervisorAway
from fleet.control.supervision.supervisord_home import Home
from fleet.process.wall_clock import CLOCK_AHEAD
from tests.fleet import Fleet, second_machine
from tests.relay import Relay
from tests.waiting import wait_for

#: How far the clocks are ahead of the first machine's, in turn.
CLOCKS_AHEAD = (20.0, -20.0)
#: The longest is beyond the heartbeat timeout, and shorter than that and the wait for another machine's answer.
CUTS_SECONDS = (8.0, 45.0, 20.0)
#: When each cut begins, and the roll, as shares of the time.
CUTS_AT, ROLL_AT = (0.1, 0.3, 0.75), 0.6


@dataclass
class FurtherMachine:
    """One of them. ``ahead`` is what its clock is ahead."""

    number: int
    fleet: Fleet
    relay: Relay
    ahead: float
    say: Callable[[str], None]
    cuts: int = 0
    rolls: int = 0

    def run(self, over: threading.Event, seconds: float, chance: Random) -> None:
        """Cut it off and roll it, each at its time, until it is over."""
        began = time.monotonic()
        steps: list[tuple[float, Callable[[], None]]] = [
            (at, lambda most=most: self._cut(over, most * chance.uniform(0.7, 1.0)))  # type: ignore[misc]
            for at, most in zip(CUTS_AT, CUTS_SECONDS, strict=True)
        ]
        steps.append((ROLL_AT, self._roll))
        for due, step in sorted(steps, key=lambda step: step[0]):
            if over.wait(max(began + due * seconds - time.monotonic(), 0)):
                return
            step()

    def _cut(self, over: threading.Event, seconds: float) -> None:
        self.say(f"machine {self.number} is cut off for {seconds:.0f} s")
        with self.relay.cut():
            over.wait(seconds)
        self.cuts += 1
        self.say(f"machine {self.number} is connected again")

    def _roll(self) -> None:
        before = self._pids()
        done = self.fleet.fleet("roll")
        assert done.returncode == 0, f"fleet roll on machine {self.number}: {done.stdout} {done.stderr}"
        wait_for("all processes are new", lambda: bool(now := self._pids()) and not now & before, RESTART_SECONDS)
        self.rolls += 1
        self.say(f"machine {self.number} has been rolled")

    def _pids(self) -> set[int]:
        try:
            processes = Supervisor(Home.at(self.fleet.state).socket).processes()
        except SupervisorAway:
            return set()
        return {process.pid for process in processes if process.pid is not None}


@contextmanager
def further_machines(
    first: Fleet, count: int, folder: Path, say: Callable[[str], None]
) -> Iterator[list[FurtherMachine]]:
    """So many of them, up until the block ends."""
    with ExitStack() as up:
        yield [
            up.enter_context(_further_machine(first, number, folder / f"machine-{number}", say))
            for number in range(2, count + 2)
        ]


@contextmanager
def _further_machine(
    first: Fleet, number: int, state: Path, say: Callable[[str], None]
) -> Iterator[FurtherMachine]:
    relay, ahead = Relay(first.port_base), CLOCKS_AHEAD[number % len(CLOCKS_AHEAD)]
    environment = {
        **first.environment,
        "TEMPORAL_HOST": f"127.0.0.1:{relay.port}",
        CLOCK_AHEAD: str(ahead),
    }
    with closing(relay), second_machine(first, state, environment) as fleet:
        say(f"machine {number} is up, its clock {ahead:+.0f} s")
        yield FurtherMachine(number, fleet, relay, ahead, say)
