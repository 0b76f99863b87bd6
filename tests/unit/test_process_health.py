"""What pulses tell of processes: who is well, who is not, and whom only a new process can mend."""

import asyncio
import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from fleet.config import load_settings
from fleet.control.health.status import FleetStatus, QueueStatus, Reachable, with_the_busy
from fleet.control.supervision.healing import Healer
from fleet.control.supervision.process_health import STILL_SECONDS, Vitals, Watch, comes_up, complaint, serves
from fleet.control.supervision.supervisord_client import ProcessStatus
from fleet.control.supervision.supervisord_home import Home
from fleet.process.liveness import LONGEST_START_SECONDS, Liveness, LivenessRecord, Unreachable, liveness_file
from fleet.process.metrics import Metrics
from fleet.process.pollers import QueuePolls
from tests.waiting import wait_for

QUEUE = "llm-openai"
NOW = 1_800_000_000.0
OPENAI = ProcessStatus("openai", "openai_00", "RUNNING", os.getpid(), 300)


def liveness(**known: Any) -> LivenessRecord:
    """Of a process that is well, except for these."""
    polls = QueuePolls(pollers=5, polled_at=NOW - 40, due_since=NOW - 40)
    record = LivenessRecord("openai_00", os.getpid(), NOW, NOW - 300, "serving", 0.001, True, {QUEUE: polls})
    return replace(record, **{"alive_at": NOW, "starts": [NOW - 300]} | known)


def polls(**known: Any) -> dict[str, QueuePolls]:
    return {QUEUE: QueuePolls(**{"pollers": 5, "polled_at": NOW - 40, "due_since": NOW - 40} | known)}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "pulse").mkdir()
    return Home(tmp_path, tmp_path, tmp_path / "logs")


def write(home: Home, record: LivenessRecord, at: float | None = None) -> None:
    path = liveness_file(home.state, record.process)
    path.write_text(json.dumps(asdict(record)), "utf-8")
    if at is not None:
        os.utime(path, (at, at))


def test_a_process_that_is_well_is_not_complained_of() -> None:
    assert complaint(OPENAI, liveness(), NOW) is None


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"alive_at": NOW - 25, "at": NOW - 25}, "has stood still for 25 s"),
        ({"at": NOW - 100}, "cannot write its pulse"),
        ({"lag_seconds": 9.0}, "event loop has been blocked for 9 s"),
        ({"stage": "starting", "connected": False}, "is not connected to Temporal"),
        ({"connected": False}, "has lost its connection to Temporal"),
        ({"queues": polls(pollers=0)}, f"has no poller on {QUEUE}"),
        ({"queues": polls(failing_since=NOW - 31)}, f"its polls of {QUEUE} have failed for 31 s"),
        ({"queues": polls(due_since=NOW - 91)}, f"no poll of {QUEUE} has come back well for 91 s"),
        ({"pid": 1}, "shows no pulse"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_said(known: dict[str, Any], said: str) -> None:
    assert said in (complaint(OPENAI, liveness(**known), NOW) or "")


@pytest.mark.parametrize(
    "known",
    [{"connected": False}, {"queues": polls(due_since=NOW - 500)}, {"queues": polls(failing_since=NOW - 99)}],
)
def test_where_temporal_is_away_no_process_is_to_blame(known: dict[str, Any]) -> None:
    assert complaint(OPENAI, liveness(**known), NOW, temporal_up=False) is None


@pytest.mark.parametrize(
    "known", [{"queues": polls(pollers=0, full=True)}, {"stage": "draining", "queues": polls(pollers=0)}]
)
def test_who_is_busy_or_on_its_way_out_may_have_no_poller(known: dict[str, Any]) -> None:
    assert complaint(OPENAI, liveness(**known), NOW) is None


def started(*ago: float) -> LivenessRecord:
    return liveness(starts=[NOW - seconds for seconds in ago])


def test_a_process_that_keeps_ending_is_told_however_young_it_is() -> None:
    """Each run is long enough for supervisord and too short for any other complaint."""
    young = replace(OPENAI, uptime_seconds=3, state="STARTING")
    assert "keeps ending: its last runs took 25 and 31 s" in (complaint(young, started(59, 34, 3), NOW) or "")
    unwritten = replace(started(59, 34), pid=1)
    assert "keeps ending" in (complaint(young, unwritten, NOW) or ""), "it has not even a pulse yet"
    for well in (
        complaint(young, started(3), NOW),
        complaint(young, started(34, 3), NOW),
        complaint(young, started(300, 34, 3), NOW),
        complaint(young, replace(unwritten, stage="ended"), NOW),
        complaint(replace(OPENAI, uptime_seconds=31), started(87, 62, 31), NOW),
    ):
        assert well is None


LOST = Unreachable("reach openai", "no route to host", NOW - 90, probes=6, next_at=NOW + 12)


def test_a_process_that_cannot_send_says_what_it_cannot_and_when_it_asks_again(home: Home) -> None:
    probing = liveness(stage="probing", unreachable=LOST, queues=polls(pollers=0))
    said = "openai_00 cannot reach openai: probing, next in 12 s: no route to host"
    assert complaint(OPENAI, probing, NOW) == said
    assert complaint(replace(OPENAI, uptime_seconds=2), probing, NOW) == said
    assert Vitals.of(probing, NOW).unreachable == LOST
    assert "stood still" in (complaint(OPENAI, replace(probing, alive_at=NOW - 25), NOW) or "")
    now = time.time()
    write(home, replace(probing, at=now, alive_at=now), now)
    assert not serves(home, OPENAI) and comes_up(home, OPENAI), "a restart would not mend it"
    watch = Watch(home, lambda: 1e6)
    assert watch.patient(OPENAI) is None, "nor would the guardian's"


def test_what_keeps_calls_from_being_sent_is_known_over_a_restart_until_it_polls(tmp_path: Path) -> None:
    settings = load_settings(api_base_url="https://b", state_dir=tmp_path)
    path = liveness_file(tmp_path, "openai_00")
    path.parent.mkdir()
    first = Liveness(settings, "openai_00", Metrics())
    first.probing(LOST)
    first.end(well=True)
    second = Liveness(settings, "openai_00", Metrics())
    second.record.follows(LivenessRecord.read(path))
    assert second.record.unreachable == LOST
    second.serving([QUEUE])
    second.end(well=True)
    found = LivenessRecord.read(path)
    assert found is not None and found.unreachable is None
    later = json.loads(path.read_text("utf-8")) | {"unreachable": asdict(LOST) | {"of_a_later_release": 1}}
    path.write_text(json.dumps(later), "utf-8")
    known = LivenessRecord.read(path)
    assert known is not None and known.unreachable == LOST


def test_starts_count_from_the_last_end_that_was_meant() -> None:
    def begun(at: float, last: LivenessRecord | None) -> LivenessRecord:
        record = LivenessRecord("openai_00", 1, started_at=at)
        record.follows(last)
        return record

    first = begun(1, None)
    assert (first.starts, first.restarts) == ([1], 0)
    killed = begun(2, replace(first, stage="serving"))
    again = begun(3, replace(killed, stage="draining"))
    assert (again.starts, again.restarts) == ([1, 2, 3], 2)
    assert begun(4, replace(again, stage="ended")).restarts == 0
    for at in range(4, 40):
        again = begun(at, again)
    assert again.restarts == 38 and len(again.starts) == 5


def test_a_record_of_another_release_is_read_as_far_as_it_is_known(home: Home) -> None:
    newer = asdict(liveness()) | {"of the future": 1}
    newer["queues"][QUEUE]["of the future"] = 2
    path = liveness_file(home.state, "openai_00")
    path.write_text(json.dumps(newer), "utf-8")
    found = LivenessRecord.read(path)
    assert found is not None and found.queues[QUEUE].pollers == 5
    path.write_text(json.dumps({"process": "openai_00", "pid": 7, "queues": {QUEUE: {"pollers": 2}}}), "utf-8")
    older = LivenessRecord.read(path)
    assert older is not None and (older.pid, older.starts, older.queues[QUEUE].full) == (7, [], False)


def current(**known: Any) -> LivenessRecord:
    return liveness(at=time.time(), **known)


def test_a_fresh_process_serves_before_its_first_poll_has_come_back(home: Home) -> None:
    write(home, current(queues=polls(polled_at=None)))
    assert serves(home, replace(OPENAI, state="STARTING", uptime_seconds=1))


def test_a_process_without_queues_serves_whatever_temporal_does(home: Home) -> None:
    write(home, current(queues={}, connected=False))
    assert serves(home, OPENAI)


@pytest.mark.parametrize(
    "known",
    [
        {"stage": "starting"},
        {"stage": "draining"},
        {"connected": False},
        {"queues": polls(pollers=0)},
        {"queues": polls(failing_since=NOW)},
        {"lag_seconds": 9.0},
        {"pid": 1},
    ],
    ids=str,
)
def test_a_process_that_is_of_no_use_does_not_serve(home: Home, known: dict[str, Any]) -> None:
    write(home, current(**known))
    assert not serves(home, OPENAI)


def test_a_process_that_stands_still_does_not_serve(home: Home) -> None:
    write(home, current(), at=time.time() - 25)
    assert not serves(home, OPENAI)
    assert not serves(home, replace(OPENAI, state="BACKOFF"))


@dataclass
class Clock:
    """Time that a test lets pass."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def watched(home: Home, clock: Clock, seconds: float, each: Callable[[], None]) -> str | None:
    """What a watch finds within that time, in which something happens every five seconds."""
    watch = Watch(home, clock)
    ending = clock.now + seconds
    while clock.now < ending:
        each()
        if watch.can_see() and (why := watch.patient(OPENAI)):
            return why
        clock.now += 5
    return None


def test_a_process_that_gives_no_sign_is_a_patient(home: Home) -> None:
    write(home, liveness())
    assert "stood still" in (watched(home, Clock(), STILL_SECONDS + 10, lambda: None) or "")


@pytest.mark.parametrize("before", [None, liveness(pid=1)])
def test_a_process_that_has_not_begun_to_beat_gets_the_time_of_a_slow_start(
    home: Home, before: LivenessRecord | None
) -> None:
    """On a busy machine it takes most of a minute until its modules are loaded: a new one would begin anew."""
    if before is not None:
        write(home, before)
    assert watched(home, Clock(), LONGEST_START_SECONDS - 10, lambda: None) is None
    assert "stood still" in (watched(home, Clock(), LONGEST_START_SECONDS + 10, lambda: None) or "")


def test_on_a_full_disk_the_time_of_its_file_is_a_sign_of_life(home: Home) -> None:
    write(home, liveness(queues=polls(pollers=0)))
    signs = iter(range(1, 1000))

    def touch() -> None:
        at = NOW + 20 + next(signs)
        os.utime(liveness_file(home.state, "openai_00"), (at, at))

    assert watched(home, Clock(), 300, touch) is None, "it may well have pollers by now: its pulse is old"


def test_a_process_that_only_another_release_can_read_is_left_alone(home: Home) -> None:
    path = liveness_file(home.state, "openai_00")
    signs = iter(range(1, 1000))

    def write_strangely() -> None:
        path.write_text("[]", "utf-8")
        os.utime(path, (NOW + next(signs),) * 2)

    assert watched(home, Clock(), 300, write_strangely) is None


@pytest.mark.parametrize(("known", "replaced"), [({"pollers": 0}, True), ({"pollers": 0, "full": True}, False)])
def test_who_polls_nothing_is_a_patient_unless_it_has_its_hands_full(
    home: Home, known: dict[str, Any], replaced: bool
) -> None:
    signs = iter(range(1, 1000))

    def beat() -> None:
        at = NOW + next(signs)
        write(home, liveness(at=at, queues=polls(**known)), at)

    why = watched(home, Clock(), 300, beat)
    assert (why is not None and "no poller" in why) == replaced


def test_nobody_is_healed_where_no_sign_of_life_can_be_given(home: Home) -> None:
    write(home, liveness())
    clock, killed = Clock(), []
    healer = Healer(Watch(home, clock), lambda: [OPENAI], lambda process: True, killed.append)
    healer.look()
    liveness_records = home.state / "pulse"
    liveness_records.rename(home.state / "elsewhere")  # as good as a folder that cannot be written, also for root
    for _ in range(30):
        clock.now += 5
        healer.look()
    assert killed == []
    (home.state / "elsewhere").rename(liveness_records)
    for _ in range(int(STILL_SECONDS // 5)):
        healer.look()
        clock.now += 5
    assert killed == [], "its time begins when it can be seen again"
    for _ in range(2):
        clock.now += 5
        healer.look()
    assert killed[:1] == [OPENAI.pid]


@contextmanager
def no_room() -> Iterator[None]:
    """No file may grow."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_pulse_beats_on_without_room_on_the_disk(tmp_path: Path) -> None:
    settings = load_settings(api_base_url="http://localhost:8000", state_dir=tmp_path)
    (tmp_path / "pulse").mkdir()
    beating = Liveness(settings, "openai_00", Metrics())
    path = liveness_file(tmp_path, "openai_00")
    beating.serving([QUEUE])
    beating.end(well=False)
    os.utime(path, (NOW - 1000,) * 2)
    with no_room():
        beating.end(well=False)
    found = LivenessRecord.read(path)
    assert found is not None and found.stage == "serving"
    assert time.time() - found.alive_at < 10
    assert list(path.parent.iterdir()) == [path]
    path.unlink()
    with no_room():
        beating.end(well=False)
    assert path.exists(), "also one that had no pulse yet gives a sign of life"
    beating.end(well=True)
    ended = LivenessRecord.read(path)
    assert ended is not None and ended.stage == "ended"


async def test_who_waits_for_a_process_to_serve_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before the next beat; and until its queue is polled it goes on telling."""
    monkeypatch.setattr("fleet.process.liveness.BEAT_SECONDS", 1000.0)
    # It beats on after the test's loop has ended, and must not take that for a blocked one.
    settings = load_settings(api_base_url="https://b", state_dir=tmp_path, loop_blocked_seconds=86_400)
    beating, path = Liveness(settings, "openai_00", Metrics()), liveness_file(tmp_path, "openai_00")

    def told() -> LivenessRecord | None:
        found = LivenessRecord.read(path)
        return found if found is not None and found.stage == beating.record.stage else None

    beating.start()
    await asyncio.to_thread(wait_for, "it has begun to beat", told)
    beating.serving([QUEUE])
    first = await asyncio.to_thread(wait_for, "it is told that it serves", told)
    assert first.idle_queues() == [QUEUE]
    await asyncio.to_thread(wait_for, "it is told again", lambda: (now := told()) and now.at > first.at)
    beating.draining()
    await asyncio.to_thread(wait_for, "it is told that it drains", told)


def test_status_shows_each_process_with_its_pulse() -> None:
    other = replace(OPENAI, process="openai_01", pid=None, state="STOPPED")
    vitals = {"openai_00": Vitals.of(liveness(restarts=2), NOW + 1)}
    status = FleetStatus(Reachable("t", ok=True), Reachable("b", ok=True), [OPENAI, other], [], vitals=vitals)
    first, second = status.to_json()["processes"]
    assert second["pulse"] is None and first["pid"] == os.getpid()
    assert first["pulse"] == {
        "stage": "serving",
        "pulse_age_seconds": 1.0,
        "lag_seconds": 0.001,
        "loop_alive": True,
        "connected": True,
        "restarts": 2,
        "queues": {QUEUE: {"pollers": 5, "full": False, "polled_seconds_ago": 41.0}},
        "unreachable": None,
    }


def test_what_an_old_pulse_said_of_the_connection_is_not_known() -> None:
    assert Vitals.of(liveness(alive_at=NOW + 100), NOW + 100).connected is None


@pytest.mark.parametrize("full", [True, False])
def test_a_queue_whose_process_has_its_hands_full_is_served(full: bool) -> None:
    known = liveness(queues=polls(pollers=0, full=full))
    status = FleetStatus(
        Reachable("t", ok=True),
        Reachable("b", ok=True),
        [OPENAI],
        [QueueStatus(QUEUE, 0, 100, 60.0)],
        vitals={"openai_00": Vitals.of(known, NOW)},
    )
    status = replace(status, queues=with_the_busy(status.queues, status.vitals))
    assert status.problems() == status.not_ready() == ([] if full else [f"nobody polls the queue {QUEUE}"])
