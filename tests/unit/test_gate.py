"""One process's gate, on a clock of its own."""

import asyncio

import pytest

from fleet.budgets.gate import LONGEST_HOLD_SECONDS, Gate
from fleet.budgets.headers import HeaderReading
from fleet.contracts import Limited

COST = {Limited.REQUESTS: 1.0, Limited.TOKENS: 500.0}


class Clock:
    """Seconds that pass while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(asyncio, "sleep", clock.sleep)
    return clock


def gate_with(clock: Clock, chance: float = 0.0) -> Gate:
    return Gate(clock, lambda: chance)


async def test_nothing_is_held_while_nothing_is_known(clock: Clock) -> None:
    gate = gate_with(clock)
    for _ in range(100):
        assert await gate.pass_through(COST) is None
    assert clock.now == 100.0


async def test_a_call_waits_until_what_remains_covers_it(clock: Clock) -> None:
    gate = gate_with(clock)
    gate.heard([HeaderReading(Limited.TOKENS, refill=100.0, remaining=200.0)], clock.now)
    assert await gate.pass_through(COST) is None
    assert clock.now == pytest.approx(103.0, abs=0.1)
    assert await gate.pass_through(COST) is None
    assert clock.now == pytest.approx(108.0, abs=0.1), "what the first took is not there for the second"


@pytest.mark.parametrize(("wait", "held"), [(4.0, 4.0), (None, 1.0), (0.0, 0.0)])
async def test_a_refusal_stops_all_for_as_long_as_it_asked(clock: Clock, wait: float | None, held: float) -> None:
    gate = gate_with(clock)
    gate.refused(wait)
    assert await gate.pass_through(COST) is None
    assert clock.now == pytest.approx(100.0 + held, abs=0.01)


async def test_what_must_wait_for_too_long_goes_back_to_its_queue(clock: Clock) -> None:
    gate = gate_with(clock)
    gate.refused(3600.0)
    assert await gate.pass_through(COST) == pytest.approx(3600.0)
    assert clock.now < 100.0 + LONGEST_HOLD_SECONDS


async def test_processes_come_back_at_moments_of_their_own(clock: Clock) -> None:
    moments = []
    for chance in (0.0, 0.5, 1.0):
        clock.now = 100.0
        gate = gate_with(clock, chance)
        gate.refused(10.0)
        await gate.pass_through(COST)
        moments.append(clock.now)
    assert moments == pytest.approx([110.0, 110.75, 111.5], abs=0.01)


async def test_the_pace_comes_back_by_equal_steps(clock: Clock) -> None:
    gate = gate_with(clock)
    for _ in range(50):
        await gate.pass_through(COST)
        clock.now += 0.1
    gate.refused(1.0)
    await gate.pass_through(COST)
    calls = []
    for _ in range(80):
        await gate.pass_through(COST)
        calls.append(clock.now)
    seconds = [sum(begin <= at < begin + 1 for at in calls) for begin in (106.1, 107.1, 108.1, 109.1)]
    assert seconds == sorted(seconds) and 4 <= seconds[0] <= 6 and seconds[-1] <= 10


async def test_what_headers_said_long_ago_holds_nobody(clock: Clock) -> None:
    gate = gate_with(clock)
    gate.heard([HeaderReading(Limited.TOKENS, refill=0.001, remaining=0.0)], clock.now)
    clock.now += 31
    assert await gate.pass_through(COST) is None
    assert clock.now == 131.0


async def test_an_older_answer_does_not_replace_a_newer_one(clock: Clock) -> None:
    gate = gate_with(clock)
    gate.heard([HeaderReading(Limited.TOKENS, refill=100.0, remaining=0.0)], clock.now)
    gate.heard([HeaderReading(Limited.TOKENS, refill=100.0, remaining=9_000.0)], clock.now - 2)
    assert await gate.pass_through(COST) is None
    assert clock.now == pytest.approx(105.0, abs=0.1)
