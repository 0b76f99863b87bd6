"""``scripts/soak.sh --minutes M --seed N --json``: pipelines run while their fleet is scaled, rolled, restarted
and killed at random. The last line is one JSON object; the exit status is 1 if something was lost.

``max_seconds_without_poller`` is, for each queue, the longest time in which no living process of this machine
polled it, by the processes' own pulses (written every second), outside of the restart of supervisord.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowFailureError

from fleet.contracts import PIPELINE_QUEUE, WORKFLOW_TYPE
from fleet.processes import start_ticks
from fleet.pulse import PulseRecord
from tests.fleet import Fleet, running_fleet

AT_ONCE = 3
KILL_EACH_SECONDS = 10.0
LOOK_SECONDS = 0.2
WORKERS = ("pipeline", "assistants", "openai", "anthropic", "gemini")
QUEUES = {
    "pipeline": ["pipeline", "control"],
    "assistants": ["assistants"],
    **{name: [f"llm-{name}"] for name in ("openai", "anthropic", "gemini")},
}


@dataclass
class Soak:
    """What is done to a fleet, and what came of it."""

    fleet: Fleet
    seconds: float
    chance: random.Random
    say: Callable[[str], None]
    completed: int = 0
    failed: int = 0
    kills: int = 0
    scales: int = 0
    rolls: int = 0
    trouble: list[str] = field(default_factory=list)
    restarting: bool = False
    over: threading.Event = field(default_factory=threading.Event)
    longest: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def run(self) -> None:
        """All of it; returns when the last pipeline has ended."""
        beside = [threading.Thread(target=each) for each in (self._kill, self._operate, self._look)]
        for thread in beside:
            thread.start()
        try:
            asyncio.run(self._pipelines())
        finally:
            self.over.set()
            for thread in beside:
                thread.join()

    async def _pipelines(self) -> None:
        ending = time.monotonic() + self.seconds
        await asyncio.gather(*(self._one_after_another(ending) for _ in range(AT_ONCE)))

    async def _one_after_another(self, ending: float) -> None:
        client = await self.fleet.client()
        while time.monotonic() < ending:
            try:
                await client.execute_workflow(
                    WORKFLOW_TYPE,
                    args=["Jak vybrat kávovar", "seo-demo", "", ""],
                    id=f"soak-{uuid.uuid4().hex[:10]}",
                    task_queue=PIPELINE_QUEUE,
                )
                self.completed += 1
            except WorkflowFailureError as error:
                self.failed += 1
                self.trouble.append(f"a pipeline failed: {error.cause}")

    def _kill(self) -> None:
        while not self.over.wait(KILL_EACH_SECONDS):
            if self.restarting:
                continue
            alive = [one for one in self._processes() if one["program"] in WORKERS and one["state"] == "RUNNING"]
            if alive:
                victim = self.chance.choice(alive)
                self.say(f"kill {victim['process']}")
                try:
                    os.kill(victim["pid"], signal.SIGKILL)
                    self.kills += 1
                except ProcessLookupError:
                    continue

    def _processes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.fleet.status()["processes"]
        return found

    def _operate(self) -> None:
        """1 → 4 → 2, everything rolled twice, supervisord restarted once, at even distances."""
        program = self.chance.choice(["openai", "anthropic", "gemini"])
        steps: list[Callable[[], None]] = [
            lambda: self._scale(program, 4),
            self._roll,
            self._restart,
            lambda: self._scale(program, 2),
            self._roll,
        ]
        for step in steps:
            if self.over.wait(self.seconds / (len(steps) + 1.5)):
                return
            step()

    def _scale(self, program: str, count: int) -> None:
        if self._command("scale", program, str(count)):
            self.scales += 1

    def _roll(self) -> None:
        if self._command("roll"):
            self.rolls += 1

    def _command(self, *arguments: str) -> bool:
        self.say(f"fleet {' '.join(arguments)}")
        done = self.fleet.fleet(*arguments)
        if done.returncode:
            self.trouble.append(f"fleet {' '.join(arguments)}: {done.stderr.strip()}")
        return done.returncode == 0

    def _restart(self) -> None:
        self.say("restart supervisord")
        self.restarting = True
        self.fleet.supervisorctl("reload")
        given_up = time.monotonic() + 120
        time.sleep(2)
        while time.monotonic() < given_up and self.fleet.status()["problems"]:
            time.sleep(0.5)
        self.restarting = False

    def _look(self) -> None:
        """Watch the pulses: which queue has nobody."""
        polled = {queue: time.monotonic() for queues in QUEUES.values() for queue in queues}
        while not self.over.wait(LOOK_SECONDS):
            now, there = time.monotonic(), self._polled()
            for queue in polled:
                if queue in there or self.restarting:
                    polled[queue] = now
                self.longest[queue] = max(self.longest[queue], now - polled[queue])

    def _polled(self) -> set[str]:
        found: set[str] = set()
        for path in self.fleet.state.glob("pulse/*.json"):
            pulse = PulseRecord.read(path)
            if pulse is None or pulse.stage != "serving" or not _lives(pulse):
                continue
            found |= {queue for queue, polls in pulse.queues.items() if polls.pollers}
        return found

    def result(self) -> dict[str, Any]:
        """The last line."""
        calls = self.fleet.simulator.ledger()
        return {
            "pipelines": self.completed + self.failed,
            "completed": self.completed,
            "failed": self.failed,
            "calls": len(calls),
            "answered_and_sent_again": answered_and_sent_again(calls),
            "kills": self.kills,
            "scales": self.scales,
            "rolls": self.rolls,
            "max_seconds_without_poller": {name: round(much, 1) for name, much in sorted(self.longest.items())},
        }


def _lives(pulse: PulseRecord) -> bool:
    """Whether the process that wrote it still is; a pid may be another's by now."""
    ticks = start_ticks(pulse.pid)
    return ticks is not None and time.time() - pulse.at < 5


def answered_and_sent_again(calls: list[dict[str, Any]]) -> int:
    """Calls whose answer reached the fleet's host, and that were sent once more."""
    of_key: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for call in calls:
        if call["idempotency_key"]:
            of_key[call["idempotency_key"]].append(call)
    again = 0
    for group in of_key.values():
        group.sort(key=lambda call: float(call["at"]))
        first = next((number for number, call in enumerate(group) if call["outcome"] == "answered"), None)
        again += len(group) - 1 - first if first is not None else 0
    return again


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="scripts/soak.sh", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="the last line alone")
    options = parser.parse_args()
    began = time.monotonic()

    def say(text: str) -> None:
        if not options.json:
            print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    with (
        tempfile.TemporaryDirectory(prefix="fleet-soak-") as folder,
        running_fleet(Path(folder, "state"), {}) as fleet,
    ):
        soak = Soak(fleet, options.minutes * 60, random.Random(options.seed), say)
        soak.run()
        result = soak.result()
    for line in soak.trouble:
        print(line, file=sys.stderr)
    print(json.dumps(result), flush=True)
    sys.exit(1 if soak.trouble or result["answered_and_sent_again"] else 0)


if __name__ == "__main__":
    main()
