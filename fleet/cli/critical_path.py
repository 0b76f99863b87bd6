"""The lower bound of a pipeline's duration: its longest chain of calls. No I/O."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from fleet.contracts import StageRecord


def critical_path_seconds(stages: Iterable[StageRecord], calls: Iterable[Mapping[str, Any]]) -> float | None:
    """The longest sum of call durations along a chain of assistants that wait for each other.

    ``calls`` is the simulator's ledger; all calls of one assistant count, since it waits for each. Reused outputs
    took no time. None if nothing was called, or if the ledger lacks an answered call.
    """
    durations: dict[str, float] = {}
    for call in calls:
        key = call["idempotency_key"] or ""
        durations[key] = durations.get(key, 0.0) + call["seconds"]
    by_key = {stage.function_key: stage for stage in stages}
    own = {key: durations.get(_call_of(stage), 0.0) for key, stage in by_key.items()}
    unknown = any(_call_of(stage) not in durations for stage in by_key.values() if _call_of(stage))
    if unknown or not any(own.values()):
        return None

    @cache
    def until(key: str) -> float:
        """The earliest time at which this assistant can be done, in seconds from the start."""
        return own[key] + max(
            (until(input_key) for input_key in by_key[key].metadata.get("inputs", [])), default=0.0
        )

    return round(max(until(key) for key in by_key), 3)


def _reused(stage: StageRecord) -> bool:
    return stage.metadata.get("reused_from") is not None


def _call_of(stage: StageRecord) -> str:
    """The key of the call that this pipeline made for the stage; empty if it made none that was answered."""
    return "" if _reused(stage) else str(stage.metadata.get("idempotency_key") or "")
