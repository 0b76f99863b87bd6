"""How long a process drains, and how it leaves."""

import asyncio
from typing import Any

import pytest

from fleet.config import load_settings
from fleet.exit_codes import EXIT_FAILED, EXIT_OK
from fleet.process import runtime
from fleet.process.runtime import WorkerProcess


class Stuck:
    """A worker whose shutdown never returns."""

    async def shutdown(self) -> None:
        await asyncio.Event().wait()


async def drained(monkeypatch: pytest.MonkeyPatch, max_seconds: float | None) -> int:
    monkeypatch.setattr(runtime, "_AFTER_DRAIN_SECONDS", 0.05)
    settings = load_settings(API_BASE_URL="http://localhost:8000", drain_seconds=0.2)
    bounds = {} if max_seconds is None else {"max_drain_seconds": max_seconds}
    process = WorkerProcess(settings, "pipeline_00", None, lambda client: [], **bounds)  # type: ignore[arg-type]
    running: Any = asyncio.create_task(asyncio.Event().wait())
    try:
        return await asyncio.wait_for(process._drain({running: Stuck()}), 10)  # type: ignore[dict-item]
    finally:
        running.cancel()


async def test_who_may_have_a_paid_call_in_hand_and_does_not_come_to_rest_leaves_with_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert await drained(monkeypatch, None) == EXIT_FAILED


async def test_who_has_none_is_not_waited_for_that_long(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await drained(monkeypatch, 0.05) == EXIT_OK
