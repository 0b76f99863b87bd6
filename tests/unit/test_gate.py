"""One process's gate, on a clock of its own."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from fleet.budgets.worker.gate import BACK_SECONDS, LONGEST_HOLD_SECONDS, Directive, Gate
from fleet.budgets.worker.limit_headers import HeaderReading
from fleet.budgets.worker.models_without_quota import HeldModels
from fleet.contracts import Limited

real_sleep = asyncio.sleep
COST = {Limited.REQUESTS: 1.0, Limited.TOKENS: 500.0}


class Clock:
    """Seconds that pass while somebody sleeps in the thread of the test. A server that another test has left
    running in a thread of its own sleeps in real time."""

    def __init__(self) -> None:
        self.now = 100.0
        self._thread = threading.get_ident()

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        if threading.get_ident() == self._thread:
            self.now += seconds
            seconds = 0
        await real_sleep(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(asyncio, "sleep", clock.sleep)
    return clock


def gate_with(clock: Clock, chance: float = 0.0) -> Gate:
    return Gate(clock, lambda: chance)


async def test_the_clock_is_the_tests_own(clock: Clock) -> None:
    async with asyncio.timeout(10):
        await asyncio.to_thread(asyncio.run, asyncio.sleep(0.01))
    assert clock.now == 100.0


async def test_nothing_is_held_while_nothing_is_known(clock: Clock) -> None:
    gate = gate_with(clock)
    for _ in range(100):
        assert await gate.pass_through(COST) is None
    assert clock.now == 100.0


async def test_a_call_waits_until_what_remains_covers_it(clock: Clock) -> None:
    gate = gate_with(clock)
    gate.heard([HeaderReading(Limited.TOKENS, refill=100.0, remaining=200.0, limit=12_000.0)], clock.now)
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
    gate.heard([HeaderReading(Limited.TOKENS, refill=0.001, remaining=0.0, limit=12_000.0)], clock.now)
    clock.now += 31
    assert await gate.pass_through(COST) is None
    assert clock.now == 131.0


async def test_an_older_answer_does_not_replace_a_newer_one(clock: Clock) -> None:
    gate = gate_with(clock)
    gate.heard([HeaderReading(Limited.TOKENS, refill=100.0, remaining=0.0, limit=12_000.0)], clock.now)
    gate.heard([HeaderReading(Limited.TOKENS, refill=100.0, remaining=9_000.0, limit=12_000.0)], clock.now - 2)
    assert await gate.pass_through(COST) is None
    assert clock.now == pytest.approx(105.0, abs=0.1)


async def test_calls_that_take_long_are_not_held_for_what_was_not_spent(clock: Clock) -> None:
    """Three processes share ten a second; each answer tells of its limit as it was when the call was sent."""
    gate, latency, begun = gate_with(clock), 10.0, clock.now
    sent: list[float] = []
    for _ in range(200):
        assert await gate.pass_through(COST) is None
        sent.append(clock.now)
        while sent and sent[0] <= clock.now - latency:
            gate.heard([HeaderReading(Limited.REQUESTS, refill=10.0, remaining=15.0, limit=12_000.0)], sent.pop(0))
        clock.now += 0.3
    assert clock.now - begun == pytest.approx(200 * 0.3, abs=0.01)


async def test_what_was_sent_after_the_answered_call_is_not_there_any_more(clock: Clock) -> None:
    gate = gate_with(clock)
    for _ in range(4):
        await gate.pass_through(COST)
        clock.now += 1
    gate.heard([HeaderReading(Limited.TOKENS, refill=1e-9, remaining=1500.0, limit=12_000.0)], sent_at=100.0)
    assert await gate.pass_through(COST, longest_seconds=5.0) is not None, "three were sent since, and took it all"


async def test_a_call_that_was_not_sent_takes_nothing(clock: Clock) -> None:
    gate = gate_with(clock)
    gate.heard([HeaderReading(Limited.TOKENS, refill=1e-9, remaining=500.0, limit=12_000.0)], clock.now)
    clock.now += 1
    answered_before = dict(COST)
    assert await gate.pass_through(answered_before) is None
    gate.give_back(answered_before)
    assert await gate.pass_through(COST, longest_seconds=5.0) is None
    assert await gate.pass_through(COST, longest_seconds=5.0) is not None


async def test_who_waits_during_a_stop_is_not_sent_back_for_longer_than_it_lasts(clock: Clock) -> None:
    gate = gate_with(clock)
    for _ in range(50):
        await gate.pass_through(COST)
        clock.now += 0.1
    gate.refused(18.0)
    outcomes = await asyncio.gather(*(gate.pass_through(COST) for _ in range(200)))
    sent, waits = outcomes.count(None), [wait for wait in outcomes if wait is not None]
    assert 8 <= sent <= 20, "two seconds are left, at five calls a second and rising"
    assert max(waits) <= 1


async def told(
    gate: Gate, directive: Callable[[], Directive], longest_seconds: float = LONGEST_HOLD_SECONDS
) -> float | None:
    async def ask(held_seconds: float) -> Directive:
        return directive()

    return await gate.pass_through(COST, ask, longest_seconds)


async def test_a_call_that_finds_its_queue_shut_waits_there(clock: Clock) -> None:
    assert await told(gate_with(clock), lambda: Directive(shut=True)) == BACK_SECONDS
    assert clock.now == 100.0


async def test_where_no_queue_holds_it_a_call_is_held_here_until_the_provider_opens(clock: Clock) -> None:
    gate = gate_with(clock)
    assert await told(gate, lambda: Directive(shut=clock.now < 107, queue_holds=False)) is None
    assert clock.now == pytest.approx(107.0, abs=0.5)
    assert await told(gate, lambda: Directive(shut=True, queue_holds=False)) == BACK_SECONDS
    assert clock.now == pytest.approx(107.0 + LONGEST_HOLD_SECONDS, abs=0.5), "it keeps its slot meanwhile"


async def test_a_told_pace_is_kept_and_a_new_one_holds_at_once(clock: Clock) -> None:
    gate, passed = gate_with(clock), []
    for _ in range(60):
        assert await told(gate, lambda: Directive(pace=5.0 if clock.now < 106 else 1.0)) is None
        passed.append(clock.now)
    assert sum(at < 106 for at in passed) == pytest.approx(30, abs=2)
    assert sum(107 <= at < 127 for at in passed) == pytest.approx(20, abs=1)


async def test_a_pace_that_rises_has_many_processes_send_no_burst(clock: Clock) -> None:
    """Each has sent lately, and what fell due since did so at the lower pace."""
    passed = []
    for number in range(50):
        clock.now, gate = 100.0, gate_with(clock, chance=number / 50)
        for _ in range(4):
            assert await told(gate, lambda: Directive(pace=0.04 if clock.now < 150 else 0.06), 60.0) is None
            passed.append(clock.now)
    seconds = [sum(begin <= at < begin + 1 for at in passed) for begin in range(140, 165)]
    assert max(seconds) <= 5, "three a second are due at the most, and passing takes half a second's look"


async def test_a_pace_below_what_a_slot_is_kept_for_sends_calls_back(clock: Clock) -> None:
    gate = gate_with(clock, chance=1.0)
    assert await told(gate, lambda: Directive(pace=0.01)) is None
    assert await told(gate, lambda: Directive(pace=0.01)) == pytest.approx(80.0, abs=1)
    assert clock.now == pytest.approx(120.0, abs=0.1)
    assert await told(gate, lambda: Directive(pace=0.0), 3.0) == BACK_SECONDS


async def test_a_call_says_for_how_long_it_was_held_when_it_asks(clock: Clock) -> None:
    gate, asked = gate_with(clock), []

    async def ask(held_seconds: float) -> Directive:
        asked.append(held_seconds)
        return Directive()

    await gate.pass_through(COST, ask)
    gate.refused(4.0)
    await gate.pass_through(COST, ask)
    assert asked == pytest.approx([0.0, 4.0], abs=0.01)


def test_a_model_whose_quota_is_back_is_held_no_longer() -> None:
    now = [100.0]
    held = HeldModels(lambda: now[0])
    held.hold("pro", 60.0)
    assert held and held.wait_for("pro") == 60.0 and held.wait_for("flash") is None
    now[0] += 61.0
    assert not held, "though nobody has asked for it since"
