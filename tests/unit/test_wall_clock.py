"""A machine's clock that tests set holds for what crosses machines."""

import time

import pytest

from fleet.budgets.worker.report_builder import News
from fleet.execution.task_age import Arrivals
from fleet.process.wall_clock import CLOCK_AHEAD, unix_time
from fleet.providers.retry_after import time_there


@pytest.mark.parametrize("ahead", [20.0, -20.0, 0.0])
def test_all_that_crosses_machines_is_told_and_read_by_it(monkeypatch: pytest.MonkeyPatch, ahead: float) -> None:
    monkeypatch.setenv(CLOCK_AHEAD, str(ahead))
    there = time.time() + ahead
    for told in (unix_time(), News().report("openai_00", 0).sent_at, time_there({}).timestamp()):
        assert told == pytest.approx(there, abs=2)


def test_a_tasks_way_is_timed_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    arrivals = Arrivals()
    assert not arrivals.late(time.time())
    monkeypatch.setenv(CLOCK_AHEAD, "20")
    assert arrivals.late(time.time())
