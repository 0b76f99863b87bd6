"""What was counted when: by the minute, over an hour, since midnight."""

from datetime import datetime, timedelta
from pathlib import Path

from fleet.control.web.history import STEPS, Trail

NOON = datetime(2026, 3, 2, 12, 0, 30)


def at(**passed: float) -> float:
    return (NOON + timedelta(**passed)).timestamp()


def walked(minutes: int, each: float = 10.0) -> Trail:
    """Somebody looked twice in each of so many minutes, and it became ``each`` more between."""
    trail = Trail()
    for number in range(minutes):
        trail.note(at(minutes=number), {"calls": number * each}, {"llm-openai": number % 3})
        trail.note(at(minutes=number, seconds=20), {"calls": (number + 1) * each}, {"llm-openai": 0})
    return trail


def test_a_series_says_how_much_it_became_in_each_minute() -> None:
    series = walked(5).series("calls")
    assert series[-5:] == [10.0] * 5 and series[:-5] == [None] * (STEPS - 5)


def test_the_most_that_waited_in_a_minute_counts() -> None:
    assert walked(5).waited("llm-openai")[-5:] == [0, 1, 2, 0, 1]


def test_what_was_counted_before_the_first_look_belongs_to_no_minute() -> None:
    trail = Trail()
    trail.note(at(), {"calls": 1_000_000}, {})
    trail.note(at(seconds=5), {"calls": 1_000_003}, {})
    assert trail.series("calls")[-1] == 3 and trail.hour("calls") == 3 and trail.today("calls") == 3


def test_an_hour_is_no_longer_than_one() -> None:
    trail = walked(STEPS + 40)
    assert len(trail.minutes) == STEPS and trail.hour("calls") == STEPS * 10.0


def test_a_minute_in_which_nobody_looked_is_not_known() -> None:
    trail = walked(3)
    trail.note(at(minutes=6), {"calls": 90.0}, {})
    assert trail.series("calls")[-6:] == [10.0, 10.0, None, None, None, None] and trail.hour("calls") == 90.0


def test_a_day_begins_with_what_was_known_before_midnight() -> None:
    trail = walked(2)
    trail.note(at(hours=14), {"calls": 25.0}, {})
    assert trail.today("calls") == 5.0
    trail.note(at(hours=15), {"calls": 31.0}, {})
    assert trail.today("calls") == 11.0 and trail.midnight == datetime(2026, 3, 3).timestamp()


def test_a_counter_that_begins_anew_is_no_loss() -> None:
    trail = walked(2)
    trail.note(at(minutes=2), {"calls": 0.0}, {})
    assert trail.series("calls")[-1] == 0.0 and trail.today("calls") == 0.0


def test_who_is_started_anew_goes_on(tmp_path: Path) -> None:
    trail = walked(5)
    trail.save(tmp_path)
    loaded = Trail.load(tmp_path)
    assert loaded == trail and loaded.series("calls") == trail.series("calls")


def test_a_damaged_trail_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "trail.json").write_text('{"minutes": {"x": 3}}', "utf-8")
    assert Trail.load(tmp_path) == Trail()
