"""The longest chain of calls."""

from typing import Any

from fleet.cli.critical_path import critical_path_seconds
from fleet.contracts import StageRecord


def stage(key: str, *inputs: str) -> StageRecord:
    metadata = {"inputs": list(inputs), "idempotency_key": f"call-{key}"}
    return StageRecord(key, "done", key, 1, None, 0.0, "", metadata)


def call(key: str, seconds: float) -> dict[str, Any]:
    return {"idempotency_key": f"call-{key}", "seconds": seconds}


def test_parallel_calls_count_once_and_repeated_ones_together() -> None:
    stages = [stage("a"), stage("b"), stage("c", "a", "b"), stage("d", "a")]
    calls = [call("a", 1.0), call("b", 3.0), call("c", 1.0), call("c", 0.5), call("d", 2.0), call("other", 99.0)]
    assert critical_path_seconds(stages, calls) == 4.5


def test_a_call_that_the_ledger_lacks_makes_it_unknown_and_a_reused_one_takes_no_time() -> None:
    stages = [stage("a"), stage("b", "a")]
    assert critical_path_seconds(stages, [call("b", 1.0)]) is None
    stages[0].metadata["reused_from"] = "run"
    assert critical_path_seconds(stages, [call("a", 9.0), call("b", 1.0)]) == 1.0


def test_without_calls_of_this_pipeline_there_is_none() -> None:
    assert critical_path_seconds([stage("a")], [call("other", 1.0)]) is None
    assert critical_path_seconds([], []) is None
