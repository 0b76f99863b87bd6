"""The operator's orders where a provider has several queues, or nobody to obey."""

import asyncio

import pytest

from fleet.budgets.limits_and_pauses import all_of
from fleet.budgets.messages import BudgetStatus
from fleet.cli import limits
from fleet.config import Settings, load_settings
from fleet.contracts import LimitSettings
from fleet.errors import OperationError

QUEUES = ["llm-groq", "llm-groq-small", "llm-groq-large"]


def paused(queue: str) -> BudgetStatus:
    return BudgetStatus(queue, 0.0, "paused", "by hand", True, 0, 0, 0)


async def test_all_queues_of_a_provider_are_told_at_once() -> None:
    all_told, told = asyncio.Event(), set()

    async def act(client: object, queue: str) -> BudgetStatus:
        told.add(queue)
        if len(told) == len(QUEUES):
            all_told.set()
        await asyncio.wait_for(all_told.wait(), 5)
        return paused(queue)

    assert await all_of(None, QUEUES, act) == {queue: paused(queue) for queue in QUEUES}  # type: ignore[arg-type]


async def test_a_queue_that_does_not_obey_keeps_no_other_from_it() -> None:
    done = []

    async def act(client: object, queue: str) -> BudgetStatus:
        if queue == QUEUES[0]:
            raise OperationError(f"{queue} has no budget. Remedy: start a worker of that provider")
        await asyncio.sleep(0)
        done.append(queue)
        return paused(queue)

    with pytest.raises(OperationError) as failed:
        await all_of(None, QUEUES, act)  # type: ignore[arg-type]
    assert done == QUEUES[1:]
    assert str(failed.value) == (
        "done for llm-groq-small, llm-groq-large; llm-groq has no budget. Remedy: start a worker of that provider"
    )


async def test_limits_that_nobody_can_tell_are_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[LimitSettings] = []

    async def connect(settings: Settings) -> None:
        return None

    async def nobody(client: object, queue: str) -> None:
        return None

    async def take(client: object, queue: str, wanted: LimitSettings) -> BudgetStatus:
        set_to.append(wanted)
        return paused(queue)

    monkeypatch.setattr(limits, "connect_once", connect)
    monkeypatch.setattr(limits, "budget_status_of", nobody)
    monkeypatch.setattr(limits, "set_limits", take)
    settings = load_settings(api_base_url="http://localhost:8000")
    with pytest.raises(OperationError, match=r"the budget workflow of llm-openai is not running.*Remedy"):
        await limits.change(settings, "openai", None, LimitSettings(rpm=500), reset=False)
    assert set_to == []
    await limits.change(settings, "openai", None, LimitSettings(rpm=500), reset=True)
    assert set_to == [LimitSettings(rpm=500)]
