"""Budgets on a real fleet: the operator, providers in trouble, fallback, turns."""

import asyncio
import json
import os
import re
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.common import Priority

from fleet.contracts import PIPELINE_QUEUE, WORKFLOW_TYPE
from tests.fleet import Fleet, json_of
from tests.waiting import wait_for

Pipeline = WorkflowHandle[Any, dict[str, Any]]


def project(fleet: Fleet, **assistant: Any) -> str:
    """A project of one assistant."""
    name = f"budget-{uuid.uuid4().hex[:8]}"
    fleet.add_project(name, assistant)
    return name


async def start(fleet: Fleet, name: str, priority: int | None = None) -> Pipeline:
    """A pipeline of that project."""
    client = await fleet.client()
    return await client.start_workflow(
        WORKFLOW_TYPE,
        args=["Kávovar", name],
        id=f"{name}-{uuid.uuid4().hex[:8]}",
        task_queue=PIPELINE_QUEUE,
        priority=Priority(priority_key=priority),
    )


def answered(fleet: Fleet, *arguments: str) -> dict[str, Any] | None:
    """What a command about one provider's queue shows of it; None while no pipeline process answers for it."""
    done = fleet.fleet(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    (budget_status,) = json_of(done.stdout)["queues"].values()
    return budget_status


def ask(fleet: Fleet, *arguments: str) -> dict[str, Any]:
    """What a command about one provider's queue shows of it."""
    budget_status = answered(fleet, *arguments)
    assert budget_status is not None, "nobody answers for the budget"
    return budget_status


def backlog(fleet: Fleet, queue: str) -> int:
    (found,) = (status["backlog"] for status in fleet.status()["queues"] if status["queue"] == queue)
    return int(found or 0)


@contextmanager
def paused(fleet: Fleet, provider: str) -> Iterator[None]:
    ask(fleet, "pause", provider, "--why", "the month's money is spent")
    try:
        yield
    finally:
        ask(fleet, "resume", provider)


async def test_a_paused_queue_sends_nothing_and_goes_on_where_it_stood(fleet: Fleet) -> None:
    fleet.simulator.clear()
    name = project(fleet)
    with paused(fleet, "openai"):
        os.kill(fleet.pids()["pipeline"], signal.SIGKILL)
        wait_for("a pipeline process runs again", lambda: fleet.budget("openai", "paused"))
        pipeline = await start(fleet, name)
        wait_for("its call waits in the queue", lambda: backlog(fleet, "llm-openai"))
        assert ask(fleet, "limits", "openai")["why"] == "the month's money is spent"
        assert fleet.simulator.ledger() == []
        assert "paused" in fleet.fleet("limits").stdout
    resumed = time.monotonic()
    wait_for("it is sent", fleet.simulator.ledger, 5)
    assert time.monotonic() - resumed < 5
    assert (await pipeline.result())["pipeline_success"]


def test_limits_of_the_operator_hold_until_they_are_reset(fleet: Fleet) -> None:
    set_now = ask(fleet, "limits", "anthropic", "--rpm", "300", "--tpm", "200000")
    heights = {limit["what"]: limit["per_minute"] for limit in set_now["limits"]}
    assert (heights["requests"], heights["tokens"]) == (300, 200_000)
    more = ask(fleet, "limits", "anthropic", "--rpm", "240")
    assert more["set_limits"] == {"rpm": 240.0, "tpm": 200_000.0, "input_tpm": None, "output_tpm": None}
    table = fleet.fleet("limits", "anthropic").stdout
    assert "240 rpm (set)" in table and "200,000 tpm (set)" in table
    fleet.supervisorctl("restart", "anthropic:*", "pipeline:*")
    wait_for("the budget answers", lambda: answered(fleet, "limits", "anthropic"))
    assert ask(fleet, "limits", "anthropic")["set_limits"] == more["set_limits"]
    assert ask(fleet, "limits", "anthropic", "--reset")["set_limits"]["rpm"] is None


WRONG = [
    (("limits", "--rpm", "5"), "whose limits?", 1),
    (("limits", "nobody"), "nobody", 1),
    (("pause", "nobody"), "nobody", 1),
    (("limits", "openai", "--model", "gpt-5", "--rpm", "5"), "no limits of its own for 'gpt-5'", 1),
    (("limits", "openai", "--rpm", "0"), "0.1", 2),
]


@pytest.mark.parametrize(("arguments", "said", "status"), WRONG, ids=[said for _, said, _ in WRONG])
def test_what_cannot_be_limited_is_named(fleet: Fleet, arguments: tuple[str, ...], said: str, status: int) -> None:
    done = fleet.fleet(*arguments)
    assert done.returncode == status and said in done.stderr and "Traceback" not in done.stderr


async def test_a_storm_of_500_loses_nothing_and_ends_by_itself(fleet: Fleet) -> None:
    name = project(fleet)
    fleet.simulator.fault("openai", "500", seconds=8)
    pipelines = [await start(fleet, name) for _ in range(20)]
    probing = wait_for("it is only probed", lambda: fleet.budget("openai", "probing"))
    assert 0.2 <= probing["rate"] <= 1 and "outage" in probing["why"]
    assert any("llm-openai is only probed" in problem for problem in fleet.status()["problems"])
    results = [await pipeline.result() for pipeline in pipelines]
    assert all(result["pipeline_success"] for result in results)
    wait_for("it is open again", lambda: fleet.budget("openai", "closed"))
    assert "⚠ PROVIDER IN TROUBLE" in fleet.log("pipeline_00") and "▶ PROVIDER HEALTHY" in fleet.log("pipeline_00")


async def test_spent_credit_parks_until_somebody_says_so_and_harms_no_other(fleet: Fleet) -> None:
    fleet.simulator.fault("openai", "quota", count=1)
    waiting = await start(fleet, project(fleet))
    parked = wait_for("it is parked", lambda: fleet.budget("openai", "parked"))
    assert "quota_spent" in parked["why"] and parked["rate"] == 0 and parked["until"] is None
    other = await start(fleet, project(fleet, model_provider="anthropic", model="claude-sonnet-4-6"))
    assert (await other.result())["pipeline_success"]
    metrics = fleet.control("metrics").text
    assert 'fleet_budget_breaker{queue="llm-openai",state="parked"} 1.0' in metrics
    assert (await waiting.query("progress"))["state"] == "running"
    assert ask(fleet, "resume", "openai")["breaker"] == "closed"
    result = await waiting.result()
    assert result["stages"][0]["metadata"]["attempts"] == 1


async def test_a_models_quota_of_the_day_holds_that_model_alone_and_says_until_when(fleet: Fleet) -> None:
    fleet.simulator.fault("gemini", "day_quota", count=1, retry_after=7200)
    waiting = await start(fleet, project(fleet, model_provider="gemini", model="gemini-2.5-flash"))
    (held,) = wait_for("it is held", lambda: ask(fleet, "limits", "gemini")["held_models"])
    assert held["model"] == "gemini-2.5-flash" and held["until"] > time.time() + 60
    assert any("gemini-2.5-flash has no quota until" in problem for problem in fleet.status()["problems"])
    assert "⛔ MODEL WITHOUT QUOTA: gemini-2.5-flash of llm-gemini" in fleet.log("pipeline_00")
    neighbour = await start(fleet, project(fleet, model_provider="gemini", model="gemini-2.5-pro"))
    assert (await neighbour.result())["pipeline_success"]
    fallback = await start(
        fleet, project(fleet, model_provider="gemini", model="gemini-2.5-flash", fallback=FALLBACK)
    )
    assert (await fallback.result())["stages"][0]["metadata"]["provider"] == "anthropic"
    assert (await waiting.query("progress"))["state"] == "running"
    assert ask(fleet, "resume", "gemini")["held_models"] == []
    assert (await waiting.result())["stages"][0]["metadata"]["attempts"] == 1


async def test_a_request_larger_than_its_limit_fails_alone_and_slows_no_other(fleet: Fleet) -> None:
    fleet.simulator.clear()
    with limited(fleet, "anthropic", input_tpm=9_000):
        name = project(fleet, model_provider="anthropic", model="claude-sonnet-4-6", system_prompt="word " * 8_000)
        before = ask(fleet, "limits", "anthropic")
        large = await start(fleet, name)
        with pytest.raises(WorkflowFailureError) as caught:
            await large.result()
        after = ask(fleet, "limits", "anthropic")
        small = project(fleet, model_provider="anthropic", model="claude-sonnet-4-6")
        assert (await (await start(fleet, small)).result())["pipeline_success"]
    assert re.search(
        r"too_large .*about 11,\d\d\d tokens, the limit is 9,000 a minute.* Remedy: shorten", said(caught)
    )
    assert [call["status"] for call in fleet.simulator.ledger()] == [429, 429, 200]
    assert after["refused"] == before["refused"] and after["breaker"] == "closed"


@contextmanager
def limited(fleet: Fleet, provider: str, **limit: float) -> Iterator[None]:
    fleet.simulator.put("limits", provider=provider, **limit)
    try:
        yield
    finally:
        fleet.simulator.put("limits", provider=provider, **dict.fromkeys(limit, 10_000_000.0))


def said(caught: "pytest.ExceptionInfo[WorkflowFailureError]") -> str:
    return str(caught.value.cause)


FALLBACK = json.dumps([{"model_provider": "anthropic", "model": "claude-sonnet-4-6"}])


async def test_an_assistant_whose_provider_does_not_start_it_moves_to_the_next(fleet: Fleet) -> None:
    fleet.simulator.clear()
    with paused(fleet, "openai"):
        pipeline = await start(fleet, project(fleet, fallback=FALLBACK))
        result = await pipeline.result()
        assert result["stages"][0]["metadata"]["provider"] == "anthropic"
        assert result["stages"][0]["metadata"]["model"] == "claude-sonnet-4-6"
    (call,) = fleet.simulator.ledger()
    assert call["provider"] == "anthropic"


async def test_what_was_sent_stays_with_its_provider(fleet: Fleet) -> None:
    """It was sent, then its worker died and its queue was shut: only that provider knows the call."""
    fleet.simulator.clear()
    with fleet.latency("openai", 60.0):
        pipeline = await start(fleet, project(fleet, fallback=FALLBACK))
        wait_for("it was sent", lambda: fleet.in_flight("openai"))
        with paused(fleet, "openai"):
            os.kill(fleet.pids()["openai"], signal.SIGKILL)
            wait_for("it waits again", lambda: backlog(fleet, "llm-openai"))
            await asyncio.sleep(2 * FALLBACK_AFTER_SECONDS)  # what is tested is exactly this time
    result = await pipeline.result()
    assert result["stages"][0]["metadata"]["provider"] == "openai"
    assert {call["provider"] for call in fleet.simulator.ledger()} == {"openai"}


FALLBACK_AFTER_SECONDS = 2.0


async def test_a_model_with_limits_of_its_own_has_its_own_queue_and_no_program(fleet: Fleet) -> None:
    assert "groq-llama-guard" not in fleet.pids()
    shown = json_of(fleet.fleet("limits", "groq", "--json").stdout)["queues"]
    assert shown.keys() == {"llm-groq", "llm-groq-llama-guard"}
    assert shown["llm-groq-llama-guard"]["limits"][0]["per_minute"] == 120
    before = shown["llm-groq-llama-guard"]["calls"]
    pipeline = await start(fleet, project(fleet, model_provider="groq", model="llama-guard"))
    assert (await pipeline.result())["pipeline_success"]

    def counted() -> bool:
        now = json_of(fleet.fleet("limits", "groq", "--json").stdout)["queues"]
        return bool(now["llm-groq-llama-guard"]["calls"] == before + 1)

    wait_for("its own budget counts the call", counted)


async def test_what_its_limit_holds_for_too_long_moves_on_though_it_was_started(fleet: Fleet) -> None:
    """Its queue handed it out, and the provider refused it for ten minutes: a refusal is not paid."""
    fleet.simulator.clear()
    fleet.simulator.fault("groq", "429", count=1, retry_after=600)
    name = project(fleet, model_provider="groq", model="llama-guard", fallback=FALLBACK)
    result = await (await start(fleet, name)).result()
    assert result["stages"][0]["metadata"]["provider"] == "anthropic"
    calls = [(call["provider"], call["status"]) for call in fleet.simulator.ledger()]
    assert calls == [("groq", 429), ("anthropic", 200)]
    assert "⏭ ACTIVITY HANDED ON" in fleet.log("groq_00")


async def test_a_pause_holds_until_the_resume(fleet: Fleet) -> None:
    """How soon either is obeyed is measured by `scripts/bench.sh pause`."""
    fleet.simulator.clear()
    name = project(fleet)
    ask(fleet, "limits", "openai", "--rpm", "60")
    pipelines = await asyncio.gather(*(start(fleet, name) for _ in range(40)))
    wait_for("calls are made", lambda: len(fleet.simulator.ledger()) >= 3)
    ask(fleet, "pause", "openai")
    wait_for("none is made any more", lambda: _quiet_for(fleet, 3.0))
    shut = time.time()
    await asyncio.sleep(4)  # in which four would be made
    resumed = time.time()
    assert backlog(fleet, "llm-openai"), "there is something to hold"
    assert _sent(fleet, shut) == [], "the queue was shut, and so were the gates"
    ask(fleet, "limits", "openai", "--reset")
    ask(fleet, "resume", "openai")
    wait_for("calls are made again", lambda: _sent(fleet, resumed))
    for pipeline in pipelines:
        assert (await pipeline.result())["pipeline_success"]


def _quiet_for(fleet: Fleet, seconds: float) -> bool:
    return not _sent(fleet, time.time() - seconds)


def _sent(fleet: Fleet, since: float) -> list[float]:
    """When calls reached the provider, from that moment on."""
    return sorted(call["at"] for call in fleet.simulator.ledger() if call["at"] >= since)


async def test_projects_take_turns_and_what_is_urgent_goes_first(fleet: Fleet) -> None:
    big, small = project(fleet), project(fleet)
    with paused(fleet, "openai"):
        many = [await start(fleet, big) for _ in range(40)]
        few = [await start(fleet, small) for _ in range(3)]
        urgent = await start(fleet, big, priority=1)
        wait_for("all wait in the queue", lambda: backlog(fleet, "llm-openai") >= 44)
        ask(fleet, "limits", "openai", "--rpm", "300")
    for pipeline in [*few, urgent, *many]:
        assert (await pipeline.result())["pipeline_success"]
    ask(fleet, "limits", "openai", "--reset")
    begun = {pipeline: await _started(pipeline) for pipeline in [*few, urgent, *many]}
    order = sorted(begun, key=lambda pipeline: begun[pipeline])
    assert order.index(urgent) < 3
    assert max(order.index(pipeline) for pipeline in few) < 20, (
        "three of a small project do not wait for forty of a big one"
    )


async def _started(pipeline: Pipeline) -> float:
    """When its assistant was dispatched."""
    moments = [
        event.event_time.ToMicroseconds() / 1e6
        async for event in pipeline.fetch_history_events()
        if event.HasField("activity_task_started_event_attributes")
    ]
    return moments[-1]
