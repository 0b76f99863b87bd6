"""What /metrics tells agrees with what the provider saw, and has all that rules and dashboard speak of."""

import json
import os
import signal
import time
import uuid
from collections import Counter
from typing import Any

import pytest

from tests.fleet import Fleet, json_of
from tests.monitoring.expressions import metrics_in_dashboard, metrics_in_rules
from tests.monitoring.scrape import Scrape
from tests.waiting import wait_for

PROVIDERS = {"openai": "gpt-4o", "anthropic": "claude-sonnet-4-6", "gemini": "gemini-3.5-flash-lite"}
PIPELINES, ASSISTANTS = 9, 24
SECONDS = 1.5
#: What a process counted is in a scrape after its pulse's second and the two that a scrape may be old.
QUIET_SECONDS = 4.0
#: Pipelines by how they ended, as the server counts them.
ENDED = {
    status.lower(): f"ExecutionStatus = '{status}' AND WorkflowType = 'AssistantPipelineWorkflow'"
    for status in ("Completed", "Failed")
}
#: How a provider's fault shows in the ledger, and what it means.
FAULTS = {"429": "rate", "500": "outage", "html": "unusable_body", "empty": "unusable_empty", "400": "bad_request"}
#: Those that tell only of what has not happened in a fleet that is well, or of projects in a folder of the user's.
NOT_IN_THIS_FLEET = {"temporal_request_failure_total", "fleet_project_info"}


def parallel_project(fleet: Fleet) -> str:
    """A project whose assistants all run at once, over three providers."""
    name = f"many-{uuid.uuid4().hex[:8]}"
    choices = list(PROVIDERS.items())
    rows = [
        {
            "model_provider": choices[number % 3][0],
            "model": choices[number % 3][1],
            "max_tokens": 60,
            "input_keys": json.dumps(["topic"]),
        }
        for number in range(ASSISTANTS)
    ]
    fleet.add_project(name, *rows)
    return name


def outcome_of(call: dict[str, Any]) -> str:
    """What a line of the ledger is to the fleet."""
    if call["outcome"] == "answered":
        return "answered"
    kind = call["outcome"].removeprefix("fault:") if call["outcome"] != "rejected" else str(call["status"])
    return FAULTS[kind]


@pytest.mark.timeout(300)
def test_two_hundred_calls_with_faults_are_counted_as_the_provider_saw_them(fleet: Fleet) -> None:
    wait_for("every program runs", fleet.all_run)
    fleet.wait_for_open_pipelines()
    project = parallel_project(fleet)
    fleet.simulator.clear()
    before = settled(fleet)
    for provider in PROVIDERS:
        fleet.simulator.put("latency", provider=provider, median_seconds=SECONDS, sigma=0)
    for provider, kind, count in (
        ("openai", "429", 3),
        ("anthropic", "500", 2),
        ("openai", "html", 2),
        ("gemini", "empty", 2),
        ("gemini", "400", 1),
    ):
        fleet.simulator.fault(provider, kind, count=count)
    try:
        began = time.monotonic()
        runs = [fleet.start("run", "Kávovar", "--project", project, "--json") for _ in range(PIPELINES)]
        results = [json_of(run.communicate(timeout=240)[0]) for run in runs]
        longest = time.monotonic() - began
    finally:
        for provider in PROVIDERS:
            fleet.simulator.put("latency", provider=provider, median_seconds=0.4)
    ledger = fleet.simulator.ledger()
    assert len(ledger) >= 200
    after = wait_for("the pipelines are counted", lambda: _counted(fleet, before, len(results)))
    seen = Counter((call["provider"], outcome_of(call)) for call in ledger)
    assert set(FAULTS.values()) <= {outcome for _, outcome in seen}
    told = {
        (labels["provider"], labels["outcome"])
        for labels, _ in after.of_name("fleet_provider_calls_total")
        if after.gained(before, "fleet_provider_calls_total", **labels)
    }
    assert told == seen.keys()
    for (provider, outcome), count in seen.items():
        assert after.gained(before, "fleet_provider_calls_total", provider=provider, outcome=outcome) == count
    for provider in PROVIDERS:
        answered = [call for call in ledger if call["provider"] == provider and call["outcome"] == "answered"]
        assert after.gained(before, "fleet_provider_response_seconds_count", provider=provider) == len(answered)
        took = after.gained(before, "fleet_provider_response_seconds_sum", provider=provider)
        # A loaded machine hands answers over late, never early, and none later than the run's end.
        assert 0.99 * sum(call["seconds"] for call in answered) <= took <= len(answered) * longest
        wrote = after.gained(before, "fleet_provider_tokens_total", provider=provider, kind="output")
        assert wrote == sum(call["output_tokens"] for call in answered)
        assert after.gained(before, "fleet_provider_simulated_cost_usd_total", provider=provider) > 0
        assert after.gained(before, "fleet_provider_cost_usd_total", provider=provider) == 0, "nothing was paid"
    statuses = Counter(result["status"] for result in results)
    for outcome in ("completed", "failed"):
        told_ended = after.gained(before, "fleet_pipeline_duration_seconds_count", outcome=outcome)
        assert told_ended == statuses[outcome]
        assert after.gained(before, "fleet_pipelines", status=outcome) == statuses[outcome]
    executed = {"activity": "execute_assistant", "outcome": "success"}
    executions = after.gained(before, "fleet_activity_duration_seconds_count", **executed)
    assert executions == sum(1 for call in ledger if call["outcome"] == "answered")
    # The time of a call is a part of its activity's, however busy the machine is.
    took = after.gained(before, "fleet_provider_response_seconds_sum")
    assert took <= after.gained(before, "fleet_activity_duration_seconds_sum", **executed)


def settled(fleet: Fleet) -> Scrape:
    """A scrape that knows of all pipelines that have ended: what one tells may be some seconds old."""
    ended = {
        status: int(fleet.temporal("workflow", "count", "--query", query).stdout.rpartition("Total: ")[2])
        for status, query in ENDED.items()
    }
    known: list[float] = []
    since = time.monotonic()

    def look() -> Scrape | None:
        nonlocal known, since
        now = Scrape.of(fleet)
        told = [
            now.total(name) for name in ("fleet_pipeline_duration_seconds_count", "fleet_provider_calls_total")
        ]
        if told != known:
            known, since = told, time.monotonic()
        complete = all(now.total("fleet_pipelines", status=status) == count for status, count in ended.items())
        return now if complete and time.monotonic() - since > QUIET_SECONDS else None

    return wait_for("what has ended is counted", look)


def _counted(fleet: Fleet, before: Scrape, pipelines: int) -> Scrape | None:
    now = Scrape.of(fleet)
    ended = now.gained(before, "fleet_pipeline_duration_seconds_count")
    listed = now.gained(before, "fleet_pipelines", status="completed")
    failed = now.gained(before, "fleet_pipelines", status="failed")
    return now if ended == pipelines == listed + failed else None


def test_what_a_dead_process_counted_neither_vanishes_nor_counts_twice(fleet: Fleet) -> None:
    pids = wait_for("every program runs", fleet.all_run)
    fleet.wait_for_open_pipelines()
    fleet.simulator.clear()
    start = settled(fleet)
    done = json_of(fleet.fleet("run", "Kávovar", "--project", "seo-demo", "--json").stdout)
    assert done["status"] == "completed"
    before = wait_for("its calls are counted", lambda: _calls_counted(fleet, start))
    os.kill(pids["openai"], signal.SIGKILL)
    wait_for("it is replaced", lambda: fleet.pids().get("openai", pids["openai"]) != pids["openai"])
    after = wait_for("it has begun anew", lambda: _started(fleet, before))
    name = "fleet_provider_calls_total"
    assert before.total(name, provider="openai") > 0
    assert after.gained(before, name, provider="openai") == 0
    uptimes = [
        value for labels, value in after.of_name("fleet_process_uptime_seconds") if labels["program"] == "openai"
    ]
    assert len(uptimes) == 1 and uptimes[0] < 60


def _calls_counted(fleet: Fleet, start: Scrape) -> Scrape | None:
    """A scrape may be of a second ago."""
    now = Scrape.of(fleet)
    made = sum(1 for call in fleet.simulator.ledger() if call["provider"] == "openai")
    return now if 0 < made == now.gained(start, "fleet_provider_calls_total", provider="openai") else None


def _started(fleet: Fleet, before: Scrape) -> Scrape | None:
    now = Scrape.of(fleet)
    return now if now.gained(before, "fleet_process_starts_total", program="openai") == 1 else None


def test_a_scrape_has_all_that_the_rules_and_the_dashboard_speak_of(fleet: Fleet) -> None:
    wait_for("every program runs", fleet.all_run)
    assert (
        json_of(fleet.fleet("run", "Kávovar", "--project", "seo-demo", "--json").stdout)["status"] == "completed"
    )
    wanted = (metrics_in_rules() | metrics_in_dashboard()) - NOT_IN_THIS_FLEET
    wait_for("all are there", lambda: not wanted - Scrape.of(fleet).names)


def test_labels_are_bounded_and_name_no_topic_and_no_project(fleet: Fleet) -> None:
    text = fleet.control("metrics").text
    assert "Kávovar" not in text and "seo-demo" not in text
