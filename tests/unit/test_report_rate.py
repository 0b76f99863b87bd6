"""How often a process may report."""

import random
from itertools import pairwise

import pytest

from fleet.budgets.worker.report_rate import Allowance, Haste


def reports(each_seconds: float, until: float, news: list[tuple[float, Haste]], seed: int = 1) -> list[float]:
    """When a process reports that has something to tell from these moments on; a report tells all until then."""
    allowance = Allowance(random.Random(seed).random)
    allowance.each_seconds = each_seconds
    sent: list[float] = []
    now, waiting = 0.0, sorted(news)
    while now < until:
        due = [haste for at, haste in waiting if at <= now]
        if due and allowance.wait(max(due), now) == 0:
            allowance.take(now)
            sent.append(now)
            waiting = waiting[len(due) :]
        now += 0.05
    return sent


def always(until: int, haste: Haste = Haste.USUAL) -> list[tuple[float, Haste]]:
    return [(number * 0.1, haste) for number in range(until * 10)]


@pytest.mark.parametrize("each_seconds", [0.0, 0.1, 1.0])
def test_where_there_are_few_processes_each_reports_once_a_second(each_seconds: float) -> None:
    sent = reports(each_seconds, 100.0, always(100))
    assert 70 <= len(sent) <= 100 and min(after - before for before, after in pairwise(sent)) > 0.95


@pytest.mark.parametrize("processes", [20, 50, 200])
def test_many_processes_report_ten_times_a_second_together(processes: int) -> None:
    until = 10.0 * processes / 10
    sent = sum(len(reports(processes / 10, until, always(int(until)), seed)) for seed in range(20))
    assert sent * processes / 20 / until == pytest.approx(10.0, rel=0.2)


def test_processes_that_began_together_do_not_report_together() -> None:
    moments = [reports(5.0, 120.0, always(120), seed)[-1] for seed in range(50)]
    assert max(sum(abs(moment - other) < 0.5 for moment in moments) for other in moments) < 20


def test_a_process_with_few_calls_tells_of_each_at_once() -> None:
    calls = [20.0 * number for number in range(1, 10)]
    sent = reports(5.0, 200.0, [(at, Haste.USUAL) for at in calls])
    assert sent == pytest.approx(calls, abs=0.1)


def test_what_is_urgent_is_told_at_once_and_saved_for_afterwards() -> None:
    plain = [at for at in reports(20.0, 400.0, always(400)) if at > 100]
    between = plain[3] + 2.0
    sent = reports(20.0, 400.0, [*always(400), (between, Haste.URGENT)])
    assert any(between <= at < between + 0.1 for at in sent)
    assert len(sent) <= len(reports(20.0, 400.0, always(400))) + 1


def test_urgent_news_without_end_is_told_less_often_than_it_comes() -> None:
    sent = reports(5.0, 100.0, always(100, Haste.URGENT))
    assert 20 <= len(sent) <= 50
