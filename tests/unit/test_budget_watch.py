"""What one process knows of a queue's budget, and what its gate is told."""

import asyncio
import math
from dataclasses import replace
from typing import Any

import pytest
from temporalio.api.taskqueue.v1 import PollerInfo
from temporalio.client import WorkflowQueryFailedError
from temporalio.service import RPCError, RPCStatusCode

from fleet.budgets.messages import BudgetStatus, HeldModel, KnownMachine
from fleet.budgets.queue_client import QueueRate, process_of
from fleet.budgets.worker import budget_watch as watching
from fleet.budgets.worker.budget_watch import Watch
from fleet.budgets.worker.gate import Directive

EXACT, DIVIDED, NOT_SETTABLE = QueueRate(5.0), QueueRate(5.0, partitions=4), QueueRate(None, settable=False)
AWAY = RPCError("nobody polls", RPCStatusCode.UNAVAILABLE, b"")
GONE = RPCError("no such workflow", RPCStatusCode.NOT_FOUND, b"")
OF_ANOTHER_RELEASE = WorkflowQueryFailedError("no such query")


class Server:
    """Answers queries with a standing or an error, and counts them; ``now`` is the clock."""

    def __init__(self) -> None:
        self.now, self.asked, self.polling = 100.0, 0, 3
        self.answer: BudgetStatus | Exception = budget_status()
        self.polled: set[str] | Exception = {"vm1+0a"}

    def get_workflow_handle(self, workflow_id: str) -> "Server":
        assert workflow_id == "budget-llm-test"
        return self

    async def query(self, name: str, **options: Any) -> BudgetStatus:
        self.asked += 1
        await asyncio.sleep(0)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def pollers(self, client: object, queue: str) -> int:
        return self.polling

    async def machines_that_polled(self, client: object, queue: str) -> set[str]:
        if isinstance(self.polled, Exception):
            raise self.polled
        return self.polled


def budget_status(breaker: str = "closed", rate: float = 6.0, *, exact: bool = True) -> BudgetStatus:
    return BudgetStatus("llm-test", rate, breaker, "", exact, 0, 0, 0)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(watching, "pollers", server.pollers)
    monkeypatch.setattr(watching, "machines_that_polled", server.machines_that_polled)
    return server


def watch_of(server: Server, opened: QueueRate) -> Watch:
    watch = Watch(server, "llm-test", 3.0, lambda: server.now)  # type: ignore[arg-type]
    watch.opened(opened)
    return watch


async def fresh_directive(watch: Watch, *, holds_model: bool = False) -> Directive:
    """What is said once the budget has answered."""
    await watch.directive(0.0, holds_model=holds_model)
    await watch.budget_status(math.inf)
    return await watch.directive(0.0, holds_model=holds_model)


async def test_a_gate_goes_on_by_the_last_word_while_the_budget_is_asked_anew(server: Server) -> None:
    watch = watch_of(server, DIVIDED)
    assert (await watch.directive(0.0)).pace == 2.0
    server.answer = budget_status(rate=3.0)
    server.now += 1.1
    assert (await watch.directive(0.0)).pace == 2.0, "the server may take its time"
    assert (await fresh_directive(watch)).pace == 1.0
    server.answer = budget_status(rate=6.0)
    server.now += 6.0
    assert (await watch.directive(0.0)).pace == 2.0, "what was said long ago is not gone by"


async def test_where_the_queue_obeys_only_a_call_that_was_held_asks(server: Server) -> None:
    watch = watch_of(server, EXACT)
    assert await watch.directive(0.5) == Directive() and server.asked == 0
    server.answer = budget_status("paused", 0.0)
    assert await watch.directive(1.5) == Directive(shut=True) and server.asked == 1
    server.answer = budget_status("probing", 0.5)
    server.now += 1
    assert await watch.directive(1.5) == Directive(), "the queue keeps the rate"


async def test_while_a_model_has_no_quota_every_call_goes_by_the_budgets_word(server: Server) -> None:
    """The queue then dispatches more than may be sent."""
    watch = watch_of(server, EXACT)
    server.answer = replace(budget_status(), held_models=[HeldModel("m", 1e9, "")])
    await watch.directive(0.0, holds_model=True)
    server.now += 2.1
    assert await fresh_directive(watch) == Directive(pace=2.0), "a third of the fleet's rate"
    server.polling, server.answer = 1, budget_status()
    server.now += 2.1
    assert await fresh_directive(watch, holds_model=True) == Directive(pace=6.0), "the other processes have ended"


@pytest.mark.parametrize(("opened", "queue_holds"), [(DIVIDED, True), (NOT_SETTABLE, False)])
async def test_elsewhere_every_call_goes_by_the_budgets_word(
    server: Server, opened: QueueRate, queue_holds: bool
) -> None:
    watch = watch_of(server, opened)
    assert await watch.directive(0.0) == Directive(queue_holds=queue_holds, pace=2.0), (
        "a third of the fleet's rate"
    )
    server.answer, server.polling = budget_status("parked", 0.0), 2
    server.now += 0.9
    assert not (await watch.directive(0.0)).shut and server.asked == 1, "it is asked once a second at most"
    server.now += 0.2
    assert (
        await fresh_directive(watch) == Directive(shut=True, queue_holds=queue_holds, pace=0.0)
        and server.asked == 2
    )


async def test_many_processes_ask_less_often(server: Server) -> None:
    watch, server.polling = watch_of(server, DIVIDED), 50
    assert (await watch.directive(0.0)).pace == 6.0 / 50
    server.now += 1.9
    await watch.directive(0.0)
    assert server.asked == 1
    server.now += 0.2
    await fresh_directive(watch)
    assert server.asked == 2


async def test_a_process_that_reports_counts_though_it_has_no_slot_left_to_poll_with(server: Server) -> None:
    watch = watch_of(server, DIVIDED)
    server.answer, server.polling = replace(budget_status(), processes=4), 1
    assert (await watch.directive(0.0)).pace == 1.5


def test_a_process_that_was_started_again_is_still_one() -> None:
    before, after, other = (
        PollerInfo(identity=f"openai_{number}@vm+aaaaaaaaaaaa:{pid}") for number, pid in ((0, 7), (0, 9), (1, 8))
    )
    assert process_of(before) == process_of(after) != process_of(other)
    assert process_of(PollerInfo(identity="4711@laptop")) == "4711@laptop"


async def test_a_budget_that_finds_the_server_wanting_is_believed(server: Server) -> None:
    watch = watch_of(server, EXACT)
    server.answer = budget_status(exact=False)
    await watch.budget_status()
    assert (await watch.directive(0.0)).pace == 2.0


async def test_calls_at_once_ask_once(server: Server) -> None:
    watch = watch_of(server, DIVIDED)
    words = await asyncio.gather(*(watch.directive(0.0) for _ in range(20)))
    assert {directive.pace for directive in words} == {2.0} and server.asked == 1


async def test_a_caller_that_leaves_takes_nobody_elses_answer_along(server: Server) -> None:
    watch = watch_of(server, DIVIDED)
    impatient = asyncio.create_task(watch.directive(0.0))
    patient = asyncio.create_task(watch.directive(0.0))
    await asyncio.sleep(0)
    impatient.cancel()
    assert (await patient).pace == 2.0


@pytest.mark.parametrize("trouble", [AWAY, OF_ANOTHER_RELEASE], ids=["away", "of another release"])
async def test_with_nobody_to_ask_the_last_word_goes_on(server: Server, trouble: Exception) -> None:
    watch = watch_of(server, DIVIDED)
    await watch.directive(0.0)
    server.answer = trouble
    server.now += 3
    assert (await watch.directive(0.0)).pace == 2.0
    assert await watch.budget_status() is None and not watch.kept
    server.now += 4
    await watch.directive(0.0)
    assert server.asked == 2, "who does not answer is asked less"
    server.answer = budget_status("paused", 0.0)
    server.now += 2
    assert (await watch.directive(0.0)).shut and watch.kept


async def test_a_budget_that_is_gone_holds_nobody(server: Server) -> None:
    watch = watch_of(server, NOT_SETTABLE)
    server.answer = budget_status("paused", 0.0)
    assert (await watch.directive(0.0)).shut
    server.answer = GONE
    server.now += 3
    assert await fresh_directive(watch) == Directive(queue_holds=False, pace=1.0), (
        "the first rate, until it is started anew"
    )


async def test_before_anything_is_known_the_first_rate_is_kept(server: Server) -> None:
    server.answer = AWAY
    assert (await watch_of(server, NOT_SETTABLE).directive(0.0)).pace == 3.0


@pytest.mark.parametrize(
    ("reported", "polled", "alone"),
    [
        ({"vm1+0a"}, {"vm1+0a"}, True),
        ({"vm1+0a", "vm2+0b"}, {"vm1+0a"}, False),
        ({"vm1+0a"}, {"vm1+0a", "vm2+0b"}, False),
        ({"vm1+0a"}, {"vm1+0a", "vm1"}, False),
        (set(), {"vm1+0a"}, False),
        ({"vm1+0a"}, set(), False),
        ({"vm1+0a"}, AWAY, False),
        (AWAY, {"vm1+0a"}, False),
        (OF_ANOTHER_RELEASE, {"vm1+0a"}, False),
    ],
    ids=["alone", "reported", "polled", "nameless", "unreported", "unpolled", "server", "budget", "release"],
)
async def test_a_machine_is_alone_where_neither_budget_nor_server_knows_another(
    server: Server, reported: set[str] | Exception, polled: set[str] | Exception, alone: bool
) -> None:
    known = reported if isinstance(reported, Exception) else [KnownMachine(name, 0.0) for name in reported]
    server.answer = known if isinstance(known, Exception) else replace(budget_status(), machines=known)
    server.polled = polled
    assert await watch_of(server, DIVIDED).is_alone("vm1+0a") is alone
