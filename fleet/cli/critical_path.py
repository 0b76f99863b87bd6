"""The time that a pipeline cannot go below: its longest chain of calls. Pure."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from fleet.contracts import StageRecord


def critical_path_seconds(stages: Iterable[StageRecord], calls: Iterable[Mapping[str, Any]]) -> float | None:
    """The longest sum of call durations along a chain of assistants that wait for each other.

    ``calls`` is the simulator's ledger; all calls of one assistant count, since it waits for each. None where
    the ledger holds no call of this pipeline.
    """
    durations: dict[str, float] = {}
    for call in calls:
        key = call["idempotency_key"] or ""
        durations[key] = durations.get(key, 0.0) + call["seconds"]
    by_key = {stage.function_key: stage for stage in stages}
    own = {key: durations.get(stage.metadata.get("idempotency_key") or "", 0.0) for key, stage in by_key.items()}
    if not any(own.values()):
        return None

    @cache
    def until(key: str) -> float:
        """When this assistant is done at the earliest."""
        return own[key] + max((until(one) for one in by_key[key].metadata.get("inputs", [])), default=0.0)

    return round(max(until(key) for key in by_key), 3)
