"""A process that cannot send calls takes none, asks for itself after growing waits, and comes back."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from fleet.config import load_settings
from fleet.errors import (
    ApiKeyMissing,
    AssignmentUnavailable,
    BackendUnavailable,
    FleetError,
    HeldBack,
    JournalUnavailable,
    ProviderError,
)
from fleet.exit_codes import EXIT_FAILED, EXIT_OK
from fleet.failures import FailureKind, traits_of
from fleet.process import runtime
from fleet.process.liveness import LivenessRecord, Unreachable
from fleet.process.reachability import FAILURES_IN_A_ROW, LONGEST_WAIT_SECONDS, Reach, wait_after
from fleet.process.runtime import WorkerProcess

LOST = ProviderError(FailureKind.LOST_BEFORE_SENDING, "openai", "no connection could be made")
AWAY = BackendUnavailable("the backend is not available, and no key is known")
FULL = JournalUnavailable("the journal cannot be written: the disk is full")
BOUND = 5.0


@dataclass
class Machine:
    """Its clock is advanced by failures and waits; ``out_of_order`` is what a probe finds."""

    out_of_order: FleetError | None = None
    now: float = 1000.0
    waits: list[float] = field(default_factory=list)
    mended_after: int | None = None
    renewed: int = 0

    def reach(self) -> Reach:
        async def renew() -> None:
            self.renewed += 1

        return Reach({"reach openai": self.probe}, renew, lambda: self.now, self.sleep)

    async def probe(self) -> None:
        await asyncio.sleep(0)
        if self.mended_after is not None and len(self.waits) >= self.mended_after:
            return
        if self.out_of_order is not None:
            raise self.out_of_order

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    def fail(self, reach: Reach, times: int, error: Exception = LOST, every: float = 0.3) -> None:
        for _ in range(times):
            reach.ended(error)
            self.now += every


async def is_lost(reach: Reach) -> Unreachable | None:
    """What keeps calls from being sent; None if nothing is known to, once all that is due has been done."""
    losing = asyncio.create_task(reach.lost())
    for _ in range(20):
        await asyncio.sleep(0)
    losing.cancel()
    return losing.result() if losing.done() and not losing.cancelled() else None


def test_one_trait_says_what_failed_before_it_was_sent() -> None:
    assert [failure_kind for failure_kind in FailureKind if traits_of(failure_kind).before_sending] == [
        FailureKind.LOST_BEFORE_SENDING
    ]
    assert LOST.before_sending and FULL.before_sending and AWAY.before_sending
    assert not any(error.before_sending for error in (HeldBack(5.0), ApiKeyMissing("…")))


@pytest.mark.parametrize("error", [LOST, FULL, AWAY], ids=["connection", "journal", "key"])
async def test_five_failures_before_sending_and_a_probe_that_fails_too_end_the_taking_of_calls(
    error: FleetError,
) -> None:
    machine = Machine(out_of_order=error)
    reach = machine.reach()
    machine.fail(reach, FAILURES_IN_A_ROW - 1, error)
    assert await is_lost(reach) is None
    machine.fail(reach, 1, error)
    lost = await is_lost(reach)
    assert lost is not None and lost.cannot == "reach openai" and lost.why == str(error)


async def test_many_failures_within_the_same_moment_are_one_accident() -> None:
    machine = Machine(out_of_order=LOST)
    reach = machine.reach()
    machine.fail(reach, 50, every=0.01)
    assert await is_lost(reach) is None
    machine.fail(reach, 2, every=1.0)
    assert await is_lost(reach) is not None


@pytest.mark.parametrize(
    "sent",
    [None, ProviderError(FailureKind.OUTAGE, "openai", "…"), ProviderError(FailureKind.TIMED_OUT, "openai", "…")],
)
async def test_a_call_that_was_sent_ends_the_row(sent: Exception | None) -> None:
    machine = Machine(out_of_order=LOST)
    reach = machine.reach()
    for _ in range(5):
        machine.fail(reach, FAILURES_IN_A_ROW - 1)
        reach.ended(sent)
    assert await is_lost(reach) is None


@pytest.mark.parametrize("neither", [HeldBack(5.0), ApiKeyMissing("…"), AssignmentUnavailable("…")])
async def test_what_tells_nothing_of_the_way_neither_counts_nor_ends_the_row(neither: Exception) -> None:
    machine = Machine(out_of_order=LOST)
    reach = machine.reach()
    machine.fail(reach, 30, neither)
    assert await is_lost(reach) is None
    for _ in range(FAILURES_IN_A_ROW):
        machine.fail(reach, 1)
        machine.fail(reach, 1, neither)
    assert await is_lost(reach) is not None


async def test_calls_that_go_on_failing_are_believed_and_not_the_probe() -> None:
    machine = Machine()
    reach = machine.reach()
    for _ in range(2):
        machine.fail(reach, FAILURES_IN_A_ROW + 1)
        assert await is_lost(reach) is None, "the probe comes through"
    machine.fail(reach, FAILURES_IN_A_ROW + 1)
    lost = await is_lost(reach)
    assert lost is not None and "no connection could be made" in lost.why


async def test_it_probes_after_growing_waits_and_tells_of_each() -> None:
    machine = Machine(out_of_order=LOST, mended_after=9)
    reach, told = machine.reach(), []
    await reach.regained(Unreachable("reach openai", "…", since=5.0), lambda cause: told.append(cause.probes))
    assert [round(wait / wait_after(number), 1) for number, wait in enumerate(machine.waits)] == [
        pytest.approx(1.0, abs=0.11)
    ] * 9
    assert max(machine.waits) <= LONGEST_WAIT_SECONDS * 1.1
    assert told == list(range(9)) and machine.renewed == 1


async def test_the_wait_goes_on_growing_until_a_call_has_been_sent() -> None:
    machine = Machine(out_of_order=LOST, mended_after=3)
    reach = machine.reach()
    known = Unreachable("reach openai", "…")
    await reach.regained(known, lambda cause: None)
    await reach.regained(known, lambda cause: None)
    assert machine.waits[3] >= wait_after(3)
    reach.ended(None)
    await reach.regained(known, lambda cause: None)
    assert machine.waits[4] < 2 * wait_after(0)


class Worker:
    """A worker that runs until it is shut down."""

    task_queue = "llm-openai"

    def __init__(self) -> None:
        self.over = asyncio.Event()

    async def run(self) -> None:
        await self.over.wait()

    async def shutdown(self) -> None:
        self.over.set()


class Liveness:
    """What a process says of itself."""

    def __init__(self, unreachable: Unreachable | None = None) -> None:
        self.record = LivenessRecord("openai_00", 1, unreachable=unreachable)
        self.stages: list[str] = []
        self.changed = asyncio.Event()

    def _turn(self, stage: str) -> None:
        if self.stages[-1:] != [stage]:
            self.stages.append(stage)
        self.changed.set()

    def serving(self, queues: list[str]) -> None:
        self._turn("serving")

    def probing(self, unreachable: Unreachable) -> None:
        self._turn("probing")

    def draining(self) -> None:
        self._turn("draining")

    async def until(self, *stages: str) -> None:
        async with asyncio.timeout(BOUND):
            while tuple(self.stages) != stages:
                self.changed.clear()
                await self.changed.wait()


class Process:
    """A worker process without a Temporal server."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, machine: Machine, *, unreachable: Unreachable | None = None
    ) -> None:
        async def connected(*arguments: Any, **options: Any) -> object:
            return object()

        monkeypatch.setattr(runtime, "connect_patiently", connected)
        monkeypatch.setattr(runtime, "machine_id", lambda state: "aaaa")
        self.machine, self.reach, self.liveness = machine, machine.reach(), Liveness(unreachable)
        self.workers: list[Worker] = []
        self.stop = asyncio.Event()
        self.beside = asyncio.Event()
        settings = load_settings(API_BASE_URL="http://localhost:8000", drain_seconds=1)
        process = WorkerProcess(
            settings,
            "openai_00",
            self.liveness,  # type: ignore[arg-type]
            self._build,
            beside=[self._beside()],
            reach=self.reach,
        )
        self.running = asyncio.create_task(process._serve(self.stop))

    def _build(self, client: object) -> Any:
        self.workers.append(Worker())
        return self.workers[-1:]

    def _beside(self) -> Callable[[object], Awaitable[None]] | Any:
        async def run(client: object) -> None:
            await self.beside.wait()
            raise RuntimeError("a side task has died")

        return run


async def test_a_process_that_cannot_send_drains_probes_and_polls_again(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(monkeypatch, Machine(out_of_order=LOST, mended_after=3))
    await process.liveness.until("serving")
    process.machine.fail(process.reach, FAILURES_IN_A_ROW)
    await process.liveness.until("serving", "probing", "serving")
    first, second = process.workers
    assert first.over.is_set() and not second.over.is_set()
    process.stop.set()
    assert await process.running == EXIT_OK
    assert process.liveness.stages[-1] == "draining" and second.over.is_set()


async def test_one_that_could_not_send_before_it_was_restarted_probes_before_it_polls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = Unreachable("reach openai", "no route to host", since=5.0)
    process = Process(monkeypatch, Machine(out_of_order=LOST, mended_after=2), unreachable=known)
    await process.liveness.until("probing", "serving")
    assert process.machine.waits[0] == 0.0 and len(process.workers) == 1
    process.stop.set()
    assert await process.running == EXIT_OK


async def stuck(monkeypatch: pytest.MonkeyPatch) -> Process:
    """A process whose probes never succeed."""
    process = Process(monkeypatch, Machine(out_of_order=LOST))
    await process.liveness.until("serving")
    process.machine.fail(process.reach, FAILURES_IN_A_ROW)
    await process.liveness.until("serving", "probing")
    return process


async def test_a_signal_ends_a_process_that_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    process = await stuck(monkeypatch)
    process.stop.set()
    assert await asyncio.wait_for(process.running, BOUND) == EXIT_OK
    assert len(process.workers) == 1


async def test_a_side_task_that_dies_ends_a_process_that_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    process = await stuck(monkeypatch)
    process.beside.set()
    assert await asyncio.wait_for(process.running, BOUND) == EXIT_FAILED
