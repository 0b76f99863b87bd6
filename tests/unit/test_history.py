"""What was counted when: by the minute, over an hour, since midnight."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from fleet.control.web.history import MIN_STEPS, STEPS, History

NOON = datetime(2026, 3, 2, 12, 0, 30)


def at(**passed: float) -> float:
    return (NOON + timedelta(**passed)).timestamp()


def walked(minutes: int, each: float = 10.0) -> History:
    """Somebody looked twice in each of so many minutes, and it became ``each`` more between."""
    history = History()
    for number in range(minutes):
        history.note(at(minutes=number), {"calls": number * each}, {"llm-openai": number % 3})
        history.note(at(minutes=number, seconds=20), {"calls": (number + 1) * each}, {"llm-openai": 0})
    return history


def test_a_series_says_how_much_it_became_in_each_minute() -> None:
    series = walked(5).series("calls")
    assert series[-5:] == [10.0] * 5 and series[:-5] == [None] * (MIN_STEPS - 5)


@pytest.mark.parametrize(("minutes", "steps"), [(1, MIN_STEPS), (MIN_STEPS, MIN_STEPS), (25, 25), (90, STEPS)])
def test_a_series_begins_with_the_first_observation_so_that_a_chart_fills_its_width(
    minutes: int, steps: int
) -> None:
    history = walked(minutes)
    assert len(history.series("calls")) == len(history.waited("llm-openai")) == steps
    assert history.series("calls").count(None) == max(MIN_STEPS - minutes, 0)


def test_the_most_that_waited_in_a_minute_counts() -> None:
    assert walked(5).waited("llm-openai")[-5:] == [0, 1, 2, 0, 1]


def test_what_was_counted_before_the_first_look_belongs_to_no_minute() -> None:
    history = History()
    history.note(at(), {"calls": 1_000_000}, {})
    history.note(at(seconds=5), {"calls": 1_000_003}, {})
    assert history.series("calls")[-1] == 3 and history.hour("calls") == 3 and history.today("calls") == 3


def test_an_hour_is_no_longer_than_one() -> None:
    history = walked(STEPS + 40)
    assert len(history.minutes) == STEPS and history.hour("calls") == STEPS * 10.0


def test_a_minute_in_which_nobody_looked_is_not_known() -> None:
    history = walked(3)
    history.note(at(minutes=6), {"calls": 90.0}, {})
    assert history.series("calls")[-6:] == [10.0, 10.0, None, None, None, None] and history.hour("calls") == 90.0


def test_a_day_begins_with_what_was_known_before_midnight() -> None:
    history = walked(2)
    history.note(at(hours=14), {"calls": 25.0}, {})
    assert history.today("calls") == 5.0
    history.note(at(hours=15), {"calls": 31.0}, {})
    assert history.today("calls") == 11.0 and history.midnight == datetime(2026, 3, 3).timestamp()


def test_a_counter_that_begins_anew_is_no_loss() -> None:
    history = walked(2)
    history.note(at(minutes=2), {"calls": 0.0}, {})
    assert history.series("calls")[-1] == 0.0 and history.today("calls") == 0.0


def test_who_is_started_anew_goes_on(tmp_path: Path) -> None:
    history = walked(5)
    history.save(tmp_path)
    loaded = History.load(tmp_path)
    assert loaded == history and loaded.series("calls") == history.series("calls")


def test_a_damaged_trail_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "trail.json").write_text('{"minutes": {"x": 3}}', "utf-8")
    assert History.load(tmp_path) == History()
