"""What a pipeline cost: what is paid, what a simulator answered, and what nobody knows."""

from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from temporalio.converter import value_to_type

from fleet.cli.run import Outcome
from fleet.cli.show import show_outcome
from fleet.contracts import Assistant, AssistantResult, ErrorRecord, FailedCalls, Spent, StageRecord
from fleet.pipeline.inputs import PipelineInputs
from fleet.pipeline.past_runs import _reused
from fleet.pipeline.stages import Stages

PAID = AssistantResult(
    "paid", "text", "openai", "gpt-4o", "stop", 1, 0, 1, 0.25, "genai-prices 1", 1, 1.0, "2026-01-01", "key"
)
SIMULATED = replace(PAID, function_key="simulated", provider="gemini", cost_usd=0.5, simulated=True)
UNKNOWN = replace(PAID, function_key="unknown", cost_usd=None, price_version=None)
NOT_EXACT = replace(PAID, function_key="flex", service_tier="flex", price_note="priced at the standard tier")


def records_of(*results: AssistantResult) -> list[StageRecord]:
    """The records of a pipeline whose assistants answered so, and of one that did not run."""
    keys = [*(result.function_key for result in results), "idle"]
    assistants = [Assistant(key, key, number, "openai", "gpt-4o", "") for number, key in enumerate(keys)]
    stages = Stages(assistants, PipelineInputs("topic", "project", "", "2026-01-01"))
    for result in results:
        stages.queue(result.function_key, 0.0)
        stages.finish(result, 1.0)
    return stages.records()


def shown(*results: AssistantResult, final_output: str = "") -> str:
    console = Console(width=150, record=True)
    show_outcome(console, Outcome("w", "r", 1.0, records_of(*results), final_output))
    return console.export_text()


def line_of(text: str, start: str) -> str:
    return next(line.strip() for line in text.splitlines() if line.strip().startswith(f"{start} "))


def test_what_a_simulator_answered_is_not_in_what_is_paid() -> None:
    assert Spent.on(records_of(PAID, SIMULATED, UNKNOWN)) == Spent(0.25, 0.5, 1)


def test_what_a_simulator_answered_has_no_unknown_price() -> None:
    assert Spent.on(records_of(replace(SIMULATED, cost_usd=None))) == Spent(0.0, 0.0, 0)


def test_records_of_0_1_0_were_all_paid_as_far_as_they_tell() -> None:
    metadata = {"cost_usd": 0.25, "price_version": "genai-prices 1"}
    assert Spent.on([StageRecord("a", "done", "a", 1, None, 0.0, "", metadata)]) == Spent(0.25, 0.0, 0)


def test_a_result_of_0_1_0_is_read() -> None:
    later = ("simulated", "service_tier", "price_note")
    values = {name: value for name, value in vars(PAID).items() if name not in later}
    assert value_to_type(AssistantResult, values) == PAID


def test_a_reused_answer_costs_nothing_and_stays_simulated() -> None:
    reused = _reused(SIMULATED, "run-1")
    assert (reused.simulated, reused.cost_usd, reused.reused_from) == (True, 0.0, "run-1")
    assert not _reused(PAID, "run-1").simulated
    assert _reused(NOT_EXACT, "run-1").price_note == "", "that it cost nothing is exact"
    assert Spent.on(records_of(reused, PAID)) == Spent(0.25, 0.0, 0)


def test_a_stage_says_what_its_cost_is_worth() -> None:
    simulated, flex, idle = (record.metadata for record in records_of(SIMULATED, NOT_EXACT))
    assert (simulated["simulated"], simulated["price_note"], simulated["service_tier"]) == (True, "", "")
    assert (flex["simulated"], flex["service_tier"]) == (False, "flex")
    assert flex["price_note"] == "priced at the standard tier"
    assert (idle["simulated"], idle["cost_usd"]) == (False, None)


def test_the_terminal_labels_each_simulated_cost_and_sums_what_is_paid() -> None:
    text = shown(PAID, SIMULATED, UNKNOWN, NOT_EXACT)
    assert line_of(text, "paid").endswith(" $0.2500")
    assert line_of(text, "simulated").endswith(" $0.5000 simulated")
    assert line_of(text, "unknown").endswith(" unknown")
    assert line_of(text, "flex").endswith(" about $0.2500")
    total = "cost: $0.5000 + 1 call of unknown price + $0.5000 simulated, not paid"
    assert line_of(text, "cost:") == total


def test_a_pipeline_that_was_paid_speaks_of_no_simulator() -> None:
    text = shown(PAID, final_output="text")
    assert "simulat" not in text and line_of(text, "cost:") == "cost: $0.2500"


@pytest.mark.parametrize("last", [PAID, SIMULATED], ids=["a model", "the simulator"])
def test_the_output_is_said_to_be_the_simulators_where_the_last_assistants_is(last: AssistantResult) -> None:
    first = replace(SIMULATED if last is PAID else PAID, function_key="first")
    said = "Written by the provider simulator" in shown(first, last, final_output="text")
    assert said == last.simulated


def test_json_tells_the_sums_and_which_part_is_simulated() -> None:
    found: dict[str, Any] = Outcome("w", "r", 1.0, records_of(PAID, SIMULATED)).to_json()
    assert (found["cost_usd"], found["simulated_cost_usd"], found["unpriced_calls"]) == (0.25, 0.5, 0)
    assert [assistant["simulated"] for assistant in found["assistants"]] == [False, True]


BROKEN = ErrorRecord("output_broken", "it does not match", "openai", 1, retryable=False)


def failed_after(calls: FailedCalls | None) -> list[StageRecord]:
    """The records of an assistant that failed after these calls, and of one that was not sent."""
    assistants = [Assistant(key, key, number, "openai", "gpt-4o", "") for number, key in enumerate("ab")]
    stages = Stages(assistants, PipelineInputs("topic", "project", "", "2026-01-01"))
    stages.queue("a", 0.0)
    stages.fail("a", BROKEN, 1.0, calls)
    return stages.records()


def test_an_assistant_that_failed_shows_its_calls_and_what_they_cost() -> None:
    outcome = Outcome("w", "r", 1.0, failed_after(FailedCalls(2, 1, 20, 0, 16, 0.25)), error=BROKEN)
    console = Console(width=150, record=True)
    show_outcome(console, outcome)
    text, found = console.export_text(), outcome.to_json()
    assert line_of(text, "a").split()[-4:] == ["1", "1.00", "20/16", "$0.2500"]
    assert line_of(text, "cost:") == "cost: $0.2500" and found["cost_usd"] == 0.25
    (assistant,) = found["assistants"]
    assert (assistant["attempts"], assistant["calls"], assistant["possibly_paid_twice"]) == (1, 2, 1)
    assert (assistant["input_tokens"], assistant["output_tokens"], assistant["cost_usd"]) == (20, 16, 0.25)


@pytest.mark.parametrize(
    ("calls", "spent"),
    [
        (FailedCalls(2, 1, 20, 0, 16, 0.5, simulated=True), Spent(0.0, 0.5, 0)),
        (FailedCalls(2, 1, 20, 0, 16, None), Spent(0.0, 0.0, 2)),
        (FailedCalls(3, 0, cost_usd=None), Spent(0.0, 0.0, 1)),
        (FailedCalls(3), Spent(0.0, 0.0, 0)),
        (None, Spent(0.0, 0.0, 0)),
    ],
    ids=["simulated", "no known price", "one of three may have been paid", "refused", "an older worker"],
)
def test_the_calls_of_an_assistant_that_failed_are_in_the_sums(calls: FailedCalls | None, spent: Spent) -> None:
    assert Spent.on(failed_after(calls)) == spent
