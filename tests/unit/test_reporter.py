"""What a process tells its queue's budget, and what becomes of it when it cannot be told."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from temporalio.client import WorkflowQueryFailedError
from temporalio.service import RPCError, RPCStatusCode

from fleet.budgets.messages import NEW_KEY_SIGNAL, REPORT_SIGNAL, BudgetStatus, Report
from fleet.budgets.worker import budget_watch as watching
from fleet.budgets.worker import report_rate as allowance
from fleet.budgets.worker import reporter as reporting
from fleet.budgets.worker.admission import Admission
from fleet.budgets.worker.call_costs import Costs, first_cost
from fleet.budgets.worker.gate import Gate
from fleet.budgets.worker.reporter import Reporter
from fleet.contracts import Limited, LimitSettings
from fleet.errors import ProviderError
from fleet.failures import FailureKind
from fleet.providers.base import LlmAnswer, LlmRequest
from tests.waiting import wait_for

REQUEST = LlmRequest("m", "", "x" * 350, 0.7, None, None, "k")
ANSWER = LlmAnswer(
    "y",
    "m",
    "stop",
    100,
    20,
    headers={"x-ratelimit-limit-requests": "600", "x-ratelimit-remaining-requests": "90"},
)
PARKED = BudgetStatus("llm-test", 0.0, "parked", "", True, 0, 0, 0, rejected_key="old")


class Server:
    """Takes signals, or refuses so many of them first, or takes them when ``slow`` is set; answers queries with
    ``budget_status``."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.keys: list[str] = []
        self.refusing = 0
        self.slow: asyncio.Event | None = None
        self.under_way = False
        self.budget_status: BudgetStatus | Exception = BudgetStatus("llm-test", 1.0, "closed", "", True, 0, 0, 0)

    def get_workflow_handle(self, workflow_id: str) -> "Server":
        return self

    async def signal(self, name: str, argument: Any, **options: Any) -> None:
        if self.refusing:
            self.refusing -= 1
            raise RPCError("away", RPCStatusCode.UNAVAILABLE, b"")
        if self.slow is not None:
            self.under_way = True
            await self.slow.wait()
        {REPORT_SIGNAL: self.reports, NEW_KEY_SIGNAL: self.keys}[name].append(argument)

    async def query(self, name: str, **options: Any) -> BudgetStatus:
        if isinstance(self.budget_status, Exception):
            raise self.budget_status
        return self.budget_status

    def told(self, count: Callable[[Report], float]) -> float:
        return sum(count(report) for report in self.reports)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    for module, name in (
        (allowance, "_USUAL_SECONDS"),
        (allowance, "_SOON_SECONDS"),
        (reporting, "_LOOK_SECONDS"),
        (reporting, "_ASK_SECONDS"),
    ):
        monkeypatch.setattr(module, name, 0.01)
    monkeypatch.setattr(watching, "_UNKEPT_SECONDS", 0.01)
    return Server()


@asynccontextmanager
async def reporting_to(server: Server) -> AsyncIterator[tuple[Reporter, Admission]]:
    """A reporter at work, and the way in that tells it of calls."""

    async def key_mark() -> str:
        return "new"

    limits, cost = LimitSettings(), first_cost("openai")
    reporter = Reporter(server, "llm-test", limits, "w", cost, 600.0, key_mark)  # type: ignore[arg-type]
    task = asyncio.create_task(reporter.run_reports())
    try:
        yield reporter, Admission(Gate(), Costs("openai"), reporter, lambda: "key")
        assert not task.done(), "it never returns"
    finally:
        task.cancel()
        await asyncio.wait({task})


async def until(what: str, condition: Callable[[], object]) -> None:
    await asyncio.to_thread(wait_for, what, condition, 10)


async def call(admission: Admission, *, error: ProviderError | None = None) -> None:
    async with admission.admitted(REQUEST) as admitted:
        admitted.take()
        with admitted.sending():
            if error is not None:
                raise error
        admitted.answered(ANSWER)


async def test_what_calls_cost_and_what_headers_say_is_told(server: Server) -> None:
    async with reporting_to(server) as (_, admission):
        await call(admission)
        await until("it is told", lambda: server.told(lambda report: report.answered) == 1)
    assert server.told(lambda report: report.calls) == server.told(lambda report: report.charged) == 1
    assert server.told(lambda report: report.spent[Limited.TOKENS]) == 100, "settled by what it used"
    (reading,) = (reading for report in server.reports for reading in report.readings)
    assert (reading.what, reading.refill, reading.remaining) == (Limited.REQUESTS, 10.0, 90.0)


async def test_nothing_is_lost_where_the_budget_cannot_be_told(server: Server) -> None:
    server.refusing = 3
    async with reporting_to(server) as (_, admission):
        await call(admission)
        await until("one was refused", lambda: server.refusing < 3)
        refused = ProviderError(
            FailureKind.RATE, "openai", "…", status=429, wait_seconds=0.0, headers=ANSWER.headers
        )
        for _ in range(2):
            with pytest.raises(ProviderError):
                await call(admission, error=refused)
        await until("all is told", lambda: server.told(lambda report: len(report.troubles)))
    assert server.told(lambda report: report.calls) == 3
    assert server.told(lambda report: report.charged) == 1
    assert sum(trouble.count for report in server.reports for trouble in report.troubles) == 2
    assert any(reading.refused for report in server.reports for reading in report.readings)


async def test_a_request_larger_than_its_limit_lowers_no_rate(server: Server) -> None:
    headers = {"x-ratelimit-limit-tokens": "80", "x-ratelimit-remaining-tokens": "0"}
    refused = ProviderError(FailureKind.RATE, "openai", "…", status=429, headers=headers)
    async with reporting_to(server) as (_, admission):
        for told in (1, 2):
            with pytest.raises(ProviderError, match="the limit is 80 a minute"):
                await call(admission, error=refused)
            await until("it is told", lambda told=told: server.told(lambda report: report.calls) == told)  # type: ignore[misc]
    assert not any(report.troubles for report in server.reports)
    assert server.told(lambda report: report.charged) == 0
    assert server.told(lambda report: report.spent.get(Limited.TOKENS, 0.0)) == 0
    assert max(report.largest.get(Limited.TOKENS, 0.0) for report in server.reports) == 0


async def test_calls_under_way_are_told_until_they_have_ended(server: Server) -> None:
    async with reporting_to(server) as (_, admission):
        hanging = asyncio.Event()

        async def attempt() -> None:
            async with admission.admitted(REQUEST) as admitted:
                admitted.take()
                with admitted.sending():
                    await hanging.wait()

        cut_off, answered = asyncio.create_task(attempt()), asyncio.create_task(attempt())
        await until("both are under way", lambda: server.reports and server.reports[-1].in_flight == 2)
        cut_off.cancel()
        await until("one was cut off", lambda: server.reports[-1].in_flight == 1)
        hanging.set()
        await answered
        await until("none is left", lambda: server.reports[-1].in_flight == 0)


async def test_a_provider_that_keeps_silent_is_told_of_now_and_then(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "_IN_FLIGHT_SECONDS", 0.02)
    async with reporting_to(server) as (reporter, _):
        with reporter.call(first_cost("openai")):
            await until("it is told again and again", lambda: len(server.reports) >= 4)
        await until("its end is told", lambda: server.reports[-1].in_flight == 0)
        told = len(server.reports)
        await asyncio.sleep(0.1)  # what is tested is this silence
        assert len(server.reports) == told


async def test_where_there_are_many_processes_each_reports_seldom_and_loses_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.budget_status = BudgetStatus("llm-test", 1.0, "closed", "", True, 0, 0, 0, report_seconds=60.0)
    monkeypatch.setattr(reporting, "Allowance", lambda: allowance.Allowance(lambda: 1.0))
    async with reporting_to(server) as (reporter, admission):
        await call(admission)
        await until("it is told how seldom", lambda: reporter.watch.last and server.reports)
        told = len(server.reports) + 1
        await call(admission)
        await until("this is told", lambda: len(server.reports) == told)
        for _ in range(19):
            await call(admission)
        await asyncio.sleep(0.2)  # what is tested is this silence
        assert len(server.reports) == told
        refused = ProviderError(
            FailureKind.RATE, "openai", "…", status=429, wait_seconds=0.0, headers=ANSWER.headers
        )
        with pytest.raises(ProviderError):
            await call(admission, error=refused)
        await until("a refusal is told at once", lambda: len(server.reports) > told)
    assert server.told(lambda report: report.calls) == 22
    for report in server.reports:
        assert sum(count for _, count in report.sent) == report.calls
        assert all(0 <= age < 10 for age, _ in report.sent)


async def test_a_limit_that_has_changed_is_told_at_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the pause after a report, in which nothing else is due."""
    monkeypatch.setattr(reporting, "_LOOK_SECONDS", 60.0)
    monkeypatch.setattr(allowance, "_MIN_TAKEN", 1.2)
    monkeypatch.setattr(allowance, "_TAKEN_SPREAD", 0.0)
    server.budget_status = BudgetStatus("llm-test", 1.0, "closed", "", True, 0, 0, 0, report_seconds=60.0)

    def told_refills() -> list[float]:
        return [reading.refill for report in server.reports for reading in report.readings]

    async with reporting_to(server) as (reporter, admission):
        await call(admission)
        await until("the limit is told", lambda: told_refills() and reporter.watch.last)
        await call(admission)  # after its report, the next usual one is due in more than a minute
        await until("both answers are reported", lambda: server.told(lambda report: report.answered) == 2)
        lowered = ANSWER.headers | {"x-ratelimit-limit-requests": "300"}
        async with admission.admitted(REQUEST) as admitted:
            admitted.take()
            with admitted.sending():
                pass
            admitted.answered(replace(ANSWER, headers=lowered))
        await until("the lower one too", lambda: 5.0 in told_refills())


async def test_a_call_that_was_answered_before_is_told_to_nobody(server: Server) -> None:
    async with reporting_to(server) as (_, admission):
        async with admission.admitted(REQUEST):
            pass
        await call(admission)
        await until("the other is told", lambda: server.told(lambda report: report.answered))
    assert server.told(lambda report: report.calls) == 1


async def test_a_query_of_another_release_does_not_end_the_look_for_a_new_key(server: Server) -> None:
    server.budget_status = PARKED
    async with reporting_to(server) as (reporter, _):
        await until("the key is looked for", lambda: server.keys)
        server.budget_status = WorkflowQueryFailedError("unknown query")
        await until("it cannot be asked", lambda: not reporter.watch.kept)
        server.budget_status, looked = PARKED, len(server.keys)
        await until("it is looked for again", lambda: len(server.keys) > looked)


async def test_a_status_from_before_the_report_does_not_end_the_look_for_a_new_key(server: Server) -> None:
    server.slow = asyncio.Event()
    async with reporting_to(server) as (reporter, admission):
        await until("the status is known", lambda: reporter.watch.last)
        await call(admission)
        await until("its report is under way", lambda: server.under_way)
        await asyncio.sleep(0.1)  # several turns of the loop that asks
        server.budget_status = PARKED
        server.slow.set()
        await until("the key is looked for", lambda: server.keys)


async def test_a_budget_that_does_not_answer_after_a_report_is_asked_again(server: Server) -> None:
    async with reporting_to(server) as (reporter, admission):
        await until("the status is known", lambda: reporter.watch.last)
        server.budget_status = WorkflowQueryFailedError("no worker")
        await call(admission)
        await until("the report has arrived", lambda: server.reports)
        await until("it does not answer", lambda: not reporter.watch.kept)
        await asyncio.sleep(0.1)  # several turns of the loop that asks
        server.budget_status = PARKED
        await until("the key is looked for", lambda: server.keys)
