"""What the limits benchmark makes of a ledger, and that its queues stay full."""

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bench.limits import feeder as feeding
from bench.limits.bench_fleet import Stage
from bench.limits.feeder import Feeder
from bench.limits.machines import Unconfigured
from bench.limits.rows import Row, row_of, window_of
from bench.limits.scenarios import Load, Scenario
from fleet.devstack.stack import Ports

LOAD = Load("openai", rpm=600)


def row(
    levels: tuple[float, float],
    *,
    answered: int = 100,
    refused: int = 0,
    load: Load = LOAD,
    machines: int = 1,
    approximate: bool = False,
    **of_call: Any,
) -> Row:
    """Of ten seconds in which so many calls came in; 600 a minute would allow 100."""
    call = {"provider": "openai", "at": 5.0, "max_tokens": 120, "input_tokens": 90, "outcome": "answered"}
    call |= of_call
    calls = [call | {"status": 200}] * answered + [call | {"status": 429, "outcome": "rejected"}] * refused
    scenario = Scenario("a", (LOAD,), quick=True, machines=machines, approximate=approximate)
    stage = cast(Stage, SimpleNamespace(scenario=scenario, variant="budgets", killed=0))
    window = window_of(load, 0.0, 10.0, [{"openai": levels[0]}, {"openai": levels[1]}])
    return row_of(stage, load, calls, window, cpu=1.0, outcome=([0.5, 1.5], 0))


def test_what_was_answered_of_the_refill_alone_is_utilisation_one() -> None:
    assert row((15, 15)).utilisation == 1.0


def test_what_the_bucket_gave_of_its_own_is_no_utilisation() -> None:
    found = row((45, 15), answered=130)
    assert (found.utilisation, found.from_bucket, found.allowed) == (1.0, 30.0, 100.0)
    assert row((45, 15), answered=100).utilisation == 0.7


def test_refill_that_was_left_in_the_bucket_is_not_used() -> None:
    assert row((15, 45), answered=70).utilisation == 0.7


def test_refused_calls_and_those_outside_the_window_use_nothing() -> None:
    found = row((15, 15), answered=50, refused=150)
    assert (found.utilisation, found.share_429) == (0.5, 0.75)
    assert row((15, 15), at=10.0).utilisation == 0.0


def test_tokens_count_where_they_bind() -> None:
    load = Load("openai", rpm=10_000, tpm=60_000, median_tokens=500)
    assert row((9_000, 8_000), answered=10, load=load, max_tokens=600).utilisation == 0.5


def test_a_short_run_says_that_it_is_quick() -> None:
    assert row((15, 15)).shown()["quick"] is True


def test_a_row_says_on_how_many_machines_it_was_and_that_no_rate_was_kept() -> None:
    shown = row((15, 15), machines=2, approximate=True).shown()
    assert (shown["machines"], shown["approximate"]) == (2, True)
    assert not {"machines", "approximate"} & row((15, 15)).shown().keys()


def test_a_server_that_nobody_configured_divides_its_queues(tmp_path: Path) -> None:
    command = Unconfigured(tmp_path, tmp_path, Ports()).commands()["temporal"]
    assert "--sqlite-pragma" in command and not any("matching" in word or "dynamic" in word for word in command)


class Queues:
    """A stage whose queue loses ``taken`` calls at every look, as when its calls fail as fast as they come."""

    def __init__(self, taken: int) -> None:
        self.waiting, self.taken, self.looks = 0, taken, 0

    async def client(self) -> None:
        return None

    async def backlog(self, client: None, provider: str) -> int:
        self.looks += 1
        self.waiting = max(self.waiting - self.taken, 0)
        return self.waiting

    async def start_calls(self, load: Load, count: int) -> None:
        await asyncio.sleep(0)
        self.waiting += count


def test_a_queue_whose_calls_fail_is_filled_again_and_tells_how_empty_it_got(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feeding, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(feeding, "STARTING_SECONDS", 0.0)
    queues, began = Queues(taken=20), time.time()
    with Feeder(cast(Stage, queues), [LOAD], 100) as feeder:
        while queues.looks < 20:
            assert time.time() - began < 30
            time.sleep(0.01)
    assert queues.waiting > 0
    assert feeder.least("openai", began, time.time()) == 0
    assert feeder.least("gemini", began, time.time()) is None
