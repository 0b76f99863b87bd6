"""Tasks that come late, over clocks that differ."""

import pytest

from fleet.execution.task_age import Arrivals


@pytest.mark.parametrize("ahead", [-600.0, 0.0, 600.0])
def test_a_task_that_was_handed_out_long_ago_is_late_whatever_the_clocks_say(ahead: float) -> None:
    now = 1000.0
    arrivals = Arrivals(lambda: now + ahead)
    assert [arrivals.late(now - took) for took in (0.2, 0.01, 3.0, 6.0, 0.5)] == [False, False, False, True, False]


def test_a_clock_that_was_set_is_forgotten() -> None:
    now = 1000.0
    arrivals = Arrivals(lambda: now)
    arrivals.late(now)
    now += 60.0  # set; the server's clock stays
    assert [arrivals.late(now - 60.0) for _ in range(60)].count(True) == 49
