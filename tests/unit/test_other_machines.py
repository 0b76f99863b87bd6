"""Other machines on the same Temporal server are known by their pollers and by the budgets that heard them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from temporalio.api.taskqueue.v1 import PollerInfo

from fleet.budgets.messages import BudgetStatus, KnownMachine
from fleet.control.machines.last_seen import LastSeen, last_seen_in
from fleet.control.machines.other_machines import OtherMachine, other_machines

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
OWN = "control_00@vm1+aaaaaaaaaaaa:10"


def poller(identity: str, seconds_ago: float) -> PollerInfo:
    info = PollerInfo(identity=identity)
    info.last_access_time.FromDatetime(NOW - timedelta(seconds=seconds_ago))
    return info


def heard(machine: str, seconds_ago: float, version: str = "", url: str = "") -> BudgetStatus:
    """A budget that has heard that machine."""
    told = KnownMachine(machine, NOW.timestamp() - seconds_ago, version, url)
    return BudgetStatus(
        "llm-openai", 1.0, "closed", "", exact=True, calls=0, answered=0, refused=0, machines=[told]
    )


def test_each_machine_is_listed_once_with_its_processes_and_its_latest_poll() -> None:
    pollers = {
        "llm-openai": [
            poller("openai_00@vm2+bbbbbbbbbbbb:7", 40.0),
            poller("openai_01@vm2+bbbbbbbbbbbb:8", 3.0),
            poller("openai_00@vm2+bbbbbbbbbbbb:7", 41.0),
            poller("openai_02@vm2+bbbbbbbbbbbb:9", 80.0),
            poller("openai_00@vm1+aaaaaaaaaaaa:5", 1.0),
            poller("openai_00@vm1:6", 1.0),
        ],
        "llm-gemini": [
            poller("gemini_00@vm1+cccccccccccc:9", 1.0),
            poller("4711@laptop", 1.0),
            poller("", 1.0),
        ],
    }
    assert other_machines(pollers, [], OWN, NOW) == [
        OtherMachine("vm1", "cccccccccccc", ["gemini_00"], 1.0, {"llm-gemini": 1}, seen_seconds=1.0),
        OtherMachine(
            "vm2",
            "bbbbbbbbbbbb",
            ["openai_00", "openai_01", "openai_02"],
            3.0,
            {"llm-openai": 2},
            seen_seconds=3.0,
        ),
    ], "a clone of this machine's host name is another one"


def test_budgets_tell_of_machines_that_no_longer_poll_and_how_all_are_found() -> None:
    budget_statuses = [
        heard("vm2+bbbb", 500.0, "1.2.0", "http://vm2:8020"),
        heard("vm2+bbbb", 20.0),
        heard("vm3+cccc", 7200.0, "1.1.0"),
        heard("vm1+aaaaaaaaaaaa", 1.0, "1.2.0"),
        heard("vm4", 1.0),
        heard("", 1.0),
    ]
    polls = {"llm-openai": [poller("openai_00@vm2+bbbb:7", 5.0)]}
    assert other_machines(polls, budget_statuses, OWN, NOW) == [
        OtherMachine("vm2", "bbbb", ["openai_00"], 5.0, {"llm-openai": 1}, "1.2.0", "http://vm2:8020", 20.0, 5.0),
        OtherMachine(
            "vm3", "cccc", version="1.1.0", heard_seconds=7200.0, seen_seconds=7200.0, gone_seconds=7200.0
        ),
    ]


@pytest.mark.parametrize(
    ("polled", "reported", "gone"),
    [(5.0, 4000.0, None), (290.0, 30.0, None), (120.0, 4000.0, 120.0), (None, 95.0, 95.0), (280.0, None, 280.0)],
)
def test_a_machine_is_gone_since_it_was_last_seen_by_anybody(
    polled: float | None, reported: float | None, gone: float | None
) -> None:
    polls = {"llm-openai": [] if polled is None else [poller("openai_00@vm2+bbbb:7", polled)]}
    (machine,) = other_machines(polls, [] if reported is None else [heard("vm2+bbbb", reported)], OWN, NOW)
    assert machine.gone_seconds == gone


def test_a_clock_that_is_behind_the_servers_makes_nothing_older_than_it_is() -> None:
    (machine,) = other_machines({}, [heard("vm2+bbbb", -30.0)], OWN, NOW)
    assert machine.heard_seconds == 0.0 and machine.gone_seconds is None


def test_an_idle_machine_is_gone_since_it_was_last_seen_not_since_its_last_report(tmp_path: Path) -> None:
    """Temporal forgets its polls within minutes, and its last report may be of yesterday."""
    now = NOW.timestamp()
    last_seen = LastSeen(tmp_path)
    polls = {"llm-openai": [poller("openai_00@vm2+bbbb:7", 5.0)]}
    seen = other_machines(polls, [heard("vm2+bbbb", 40_000.0, "1.2.0", "http://vm2:8020")], OWN, NOW)
    last_seen.note(seen, now)
    last_seen.note(seen, now + 10.0)
    later = NOW + timedelta(seconds=600)
    (gone,) = other_machines({}, [heard("vm2+bbbb", 40_000.0)], OWN, later, last_seen_in(tmp_path))
    assert (gone.gone_seconds, gone.heard_seconds) == (605.0, 40_600.0)
    (gone,) = other_machines({}, [], OWN, later, last_seen_in(tmp_path))
    assert (gone.gone_seconds, gone.heard_seconds) == (605.0, None)
    assert (gone.version, gone.control_url) == ("1.2.0", "http://vm2:8020")
    last_seen.note([gone], now + 600.0)
    assert last_seen_in(tmp_path) == [KnownMachine("vm2+bbbb", now - 5.0, "1.2.0", "http://vm2:8020")]


def test_sightings_are_forgotten_after_a_day_and_not_needed(tmp_path: Path) -> None:
    last_seen, now = LastSeen(tmp_path), NOW.timestamp()
    old = OtherMachine("vm2", "bbbb", seen_seconds=90_000.0)
    many = [OtherMachine(f"vm{number}", "cccc", seen_seconds=float(number)) for number in range(150)]
    last_seen.note([old], now)
    assert last_seen_in(tmp_path) == []
    last_seen.note([old, *many], now)
    assert len(last_seen_in(tmp_path)) == 100
    for wrong in ("", "[7]", '[{"machine": "x"}]', "{}", '{"a": 1}', '[{"machine": 1, "heard_at": "x"}]'):
        (tmp_path / "machines-seen.json").write_text(wrong, "utf-8")
        assert last_seen_in(tmp_path) == []
