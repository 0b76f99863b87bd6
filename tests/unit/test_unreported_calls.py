"""The estimate of calls that were dispatched and not yet reported."""

import pytest

from fleet.budgets.law.unreported_calls import Unheard
from fleet.budgets.messages import Report


def report(process: str, *ages: float) -> Report:
    """A report of a process that sent one call at each of these ages, in seconds."""
    return Report(process, len(ages), len(ages), 0, sent=[[age, 1.0] for age in ages])


def heard(processes: int, at: float = 0.0, seconds: int = 400) -> Unheard:
    """So many processes, each of which reported for so many seconds that its oldest call was 2 s old."""
    unheard = Unheard()
    for second in range(seconds):
        for number in range(processes):
            unheard.hear(report(f"openai_{number:02}", 2.0), at - seconds + 1 + second)
    return unheard


def test_without_a_process_or_a_rate_nothing_is_unreported() -> None:
    unheard = Unheard()
    assert unheard.calls(10.0) == 0.0
    unheard.hear(report("openai_00"), 1.0)
    assert unheard.calls(10.0) == 0.0
    unheard.order(5.0, 5.0, 1.0)
    unheard.hear(report("openai_00", 2.0), 3.0)
    assert unheard.calls(3.05) > 0.0


def test_what_was_dispatched_since_the_last_report_is_unreported() -> None:
    unheard = heard(1)
    unheard.order(5.0, 10.0, 0.0)
    assert unheard.calls(1.0) == pytest.approx(5.0)
    unheard.hear(report("openai_00", 1.0), 1.0)
    assert unheard.calls(1.0) == 0.0
    assert unheard.calls(1.4) == pytest.approx(2.0)


def test_each_process_has_its_share_of_the_dispatched_calls() -> None:
    unheard = heard(2)
    unheard.order(6.0, 10.0, 0.0)
    unheard.hear(report("openai_00", 1.0), 1.0)
    assert unheard.calls(1.0) == pytest.approx(3.0), "the other one reported a second ago"


def test_calls_of_before_a_moment_are_counted_apart() -> None:
    unheard = heard(1)
    unheard.order(5.0, 10.0, 0.0)
    assert unheard.calls(1.0, before=0.4) == pytest.approx(2.0)


def test_a_changed_rate_counts_from_its_change_on() -> None:
    unheard = heard(1)
    unheard.order(5.0, 10.0, 0.0)
    unheard.order(1.0, 10.0, 1.0)
    assert unheard.calls(2.0) == pytest.approx(5.0 + 1.0)


def test_where_fewer_calls_come_than_the_rate_allows_as_many_are_sent_as_recently() -> None:
    unheard = heard(1)
    unheard.order(100.0, 2.0, 0.0)
    assert 2.0 <= unheard.calls(1.0) <= 4.0


def test_a_process_that_is_late_is_not_taken_to_hold_back_more_than_a_little_over_the_usual() -> None:
    unheard = heard(1)
    unheard.order(5.0, 10.0, 0.0)
    assert unheard.calls(20.0) == pytest.approx(5.0 * 1.5 * unheard.held)


def test_a_process_that_reports_no_more_is_forgotten() -> None:
    unheard = heard(2)
    unheard.order(5.0, 10.0, 0.0)
    for second in range(1, 40):
        unheard.hear(report("openai_00", 1.0), float(second))
        unheard.order(5.0, 10.0, float(second))
    assert unheard.heard_at.keys() == {"openai_00"}


def test_a_process_of_a_slow_queue_has_time_for_a_few_calls_before_it_is_forgotten() -> None:
    unheard = heard(1)
    unheard.order(0.05, 0.05, 0.0)
    unheard.order(0.05, 0.05, 50.0)
    assert unheard.heard_at, "its next call is due after 20 s, and three of them count"
    unheard.order(0.05, 0.05, 70.0)
    assert not unheard.heard_at


@pytest.mark.parametrize(("processes", "seconds"), [(1, 0.1), (10, 1.0), (50, 5.0)])
def test_about_ten_reports_a_second_arrive_however_many_processes_there_are(
    processes: int, seconds: float
) -> None:
    assert heard(processes, seconds=1).report_seconds == seconds


def test_orders_that_no_process_can_hold_any_more_are_forgotten() -> None:
    unheard = heard(1)
    for tenth in range(1000):
        unheard.order(5.0, 10.0, tenth / 10)
        unheard.hear(report("openai_00", 0.1), tenth / 10)
    assert len(unheard.orders) < 100
