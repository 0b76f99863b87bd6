"""Reports that come late, and clocks that are off."""

import pytest

from fleet.budgets.law.budget import Budget
from fleet.budgets.law.report_intake import ReportIntake
from fleet.budgets.messages import Opening, Report, Trouble
from fleet.contracts import Limited, LimitSettings
from fleet.failures import FailureKind


def at_work(process: str = "w", sent_at: float = 0.0, **told: object) -> Report:
    return Report(process, 5, 5, 5, {Limited.REQUESTS: 5.0}, sent_at=sent_at, **told)  # type: ignore[arg-type]


def report_intake() -> tuple[Budget, ReportIntake]:
    budget = Budget("llm-test")
    budget.open(Opening(LimitSettings(rpm=600), 10.0), 1000.0)
    return budget, ReportIntake(budget)


OUTAGE = [Trouble(FailureKind.OUTAGE, 500, "HTTP 503")]


def test_news_from_long_ago_counts_and_tells_of_no_present() -> None:
    budget, ear = report_intake()
    ear.take(at_work(sent_at=1001.0), 1001.1)
    assert ear.take(at_work(sent_at=1002.0, troubles=OUTAGE), 1080.0) is None
    assert (budget.calls, budget.breaker.state) == (10, "closed")
    ear.take(at_work(sent_at=1080.0, troubles=OUTAGE), 1080.1)
    assert budget.breaker.state == "probing"


def test_what_waited_is_taken_when_it_was_sent() -> None:
    budget, ear = report_intake()
    for second in range(1, 100):
        ear.take(at_work(sent_at=1000.0 + second), 1000.1 + second if second < 30 else 1100.0)
    bucket = budget.buckets[Limited.REQUESTS]
    assert bucket.at < 1100.0 and budget.heard_at is not None and budget.heard_at < 1100.0
    assert budget.settling and budget.rate() == 10.0


def test_a_clock_that_is_behind_is_told_of_once_and_then_allowed_for() -> None:
    budget, ear = report_intake()
    told = [ear.take(at_work(sent_at=980.0 + second), 1000.0 + second) for second in range(1, 20)]
    assert [behind for behind in told if behind is not None] == [20.0]
    ear.take(at_work(sent_at=1000.0, troubles=OUTAGE), 1020.0)
    assert budget.breaker.state == "probing", "its news is fresh"


@pytest.mark.parametrize("apart", [3.0, 20.0, -20.0])
def test_machines_whose_clocks_differ_are_each_heard_by_their_own(apart: float) -> None:
    """A process has the same name on every machine; its reports tell which one it is on."""
    budget, ear = report_intake()
    settled = []
    for second in range(1, 90):
        ear.take(at_work("openai_00@vm+1", sent_at=1000.0 + second), 1000.1 + second)
        ear.take(at_work("openai_00@vm+2", sent_at=1000.0 + second - apart), 1000.2 + second)
        settled.append(not budget.settling)
    assert all(settled[45:]), "a clock that is off is found out once"
    ear.take(at_work("openai_00@vm+2", sent_at=1090.0 - apart, troubles=OUTAGE), 1090.2)
    assert budget.breaker.state == "probing", "its news is fresh"


def test_a_clock_that_is_ahead_makes_nothing_late() -> None:
    budget, ear = report_intake()
    for second in range(1, 10):
        assert ear.take(at_work(sent_at=1500.0 + second, troubles=OUTAGE), 1000.0 + second) is None
    assert budget.breaker.state == "probing" and not budget.settling


def test_a_machine_whose_clock_is_off_is_found_out_by_all_its_processes_together() -> None:
    budget, ear = report_intake()
    settled = []
    for second in range(1, 60):
        ear.take(at_work("openai_00@vm+1", sent_at=1000.0 + second), 1000.1 + second)
        ear.take(at_work(f"openai_{second:02}@vm+2", sent_at=980.0 + second), 1000.2 + second)
        settled.append(not budget.settling)
    assert all(settled[45:])


def test_a_process_that_could_not_report_for_a_while_says_nothing_of_the_present_level() -> None:
    budget, ear = report_intake()
    ear.take(at_work(sent_at=1001.0, sent=[[0.5, 5]]), 1001.1)
    assert not budget.settling
    ear.take(at_work(sent_at=1020.0, sent=[[18.0, 3], [1.0, 2]]), 1020.1)
    assert budget.settling
