"""What the soak measures, from what it would see."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bench.soak.answers import ANSWER_SECONDS, Kill, SentAgain, Told, open_calls, sent_again, told_by
from bench.soak.poller_gaps import Presence, Span, longest_gaps
from fleet.execution.journal import Journal
from fleet.execution.journal_records import CallName
from fleet.process.liveness import LivenessRecord, liveness_file

CALL = ("soak-1", "seo_writer")
TWICE, ONCE = {"key": Told(CALL, 1)}, {"key": Told(CALL, 0)}


def call(at: float, seconds: float = 1.0, outcome: str = "answered", key: str | None = "key") -> dict[str, Any]:
    return {"idempotency_key": key, "at": at, "seconds": seconds, "outcome": outcome}


def kill(at: float, *open_at_its_death: tuple[str, str]) -> Kill:
    return Kill("openai_00", at, frozenset(open_at_its_death))


def test_a_call_is_sent_again_if_one_before_it_was_answered() -> None:
    assert sent_again([call(10), call(20), call(30)], [], ONCE) == SentAgain(answered=2)
    assert sent_again([call(20), call(10, outcome="client_gone")], [], ONCE) == SentAgain()
    assert sent_again([call(10), call(20, key="other"), call(30, key=None)], [], ONCE) == SentAgain()


@pytest.mark.parametrize("killed_at", [10.5, 11.0, 11.0 + ANSWER_SECONDS])
def test_an_answer_to_a_process_that_dies_with_the_call_open_never_reached_the_host(killed_at: float) -> None:
    again = sent_again([call(10), call(20)], [kill(killed_at, CALL)], TWICE)
    assert again == SentAgain(cut_off_in_the_answer=1)


@pytest.mark.parametrize(
    ("killed", "told"),
    [
        (kill(11.1), TWICE),
        (kill(11.1, ("soak-2", "seo_writer")), TWICE),
        (kill(11.0 + ANSWER_SECONDS + 0.1, CALL), TWICE),
        (kill(9.0, CALL), TWICE),
        (kill(11.1, CALL), ONCE),
        (kill(11.1, CALL), {}),
    ],
    ids=[
        "the answer was in the journal",
        "another call was open",
        "there was time to keep it",
        "it died before",
        "the result hides it",
        "no result tells of it",
    ],
)
def test_any_other_answer_did(killed: Kill, told: dict[str, Told]) -> None:
    assert sent_again([call(10), call(20)], [killed], told) == SentAgain(answered=1)


def test_an_answer_that_was_cut_off_excuses_one_more_call_and_no_third() -> None:
    calls = [call(10), call(20), call(30)]
    assert sent_again(calls, [kill(11, CALL)], TWICE) == SentAgain(answered=1, cut_off_in_the_answer=1)


def test_open_calls_are_those_of_the_process_that_have_no_answer(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal" / "openai.db", max_bytes=10**9, keep_seconds=100) as journal:
        for function in ("answered", "open"):
            journal.begin(CallName(function, "soak-1", function), deadline=1e12)
        journal.answered(CallName("answered", "soak-1", "answered"), "{}")
    with closing(sqlite3.connect(tmp_path / "journal" / "openai.db")) as connection:
        ((pid,),) = connection.execute("SELECT DISTINCT pid FROM calls")
    assert open_calls(tmp_path, pid) == {("soak-1", "open")} and open_calls(tmp_path, pid + 1) == frozenset()


def test_a_result_names_its_calls() -> None:
    stage = {"function_key": "seo_writer", "metadata": {"idempotency_key": "key", "possibly_paid_twice": 1}}
    assert told_by("soak-1", {"stages": [stage]}) == TWICE


def span(since: float, until: float, polled_at: float | None = 1.0) -> Span:
    return Span("llm-openai", "openai_00", since, until, polled_at)


@pytest.mark.parametrize(
    ("spans", "excused", "seconds"),
    [
        ([span(0, 100)], [], 0),
        ([span(0, 40), span(47, 100)], [], 7),
        ([span(0, 60), span(40, 100), span(10, 20)], [], 0),
        ([span(5, 90)], [], 10),
        ([span(0, 5), span(15, 85, polled_at=None), span(90, 100)], [], 85),
        ([span(0, 40), span(45, 80, polled_at=None), span(90, 100)], [], 10),
        ([span(0, 40), span(70, 100)], [(38, 65)], 5),
        ([], [], 100),
    ],
    ids=[
        "none",
        "between two",
        "others were there",
        "at an end",
        "no poll came back",
        "it had not to yet",
        "a restart",
        "nobody",
    ],
)
def test_a_gap_is_the_longest_time_in_which_nobody_polls(
    spans: list[Span], excused: list[tuple[float, float]], seconds: float
) -> None:
    assert longest_gaps(spans, ["llm-openai"], 0, 100, excused) == {"llm-openai": seconds}


@pytest.fixture
def seen(tmp_path: Path) -> Iterator["Seen"]:
    yield Seen(tmp_path)


class Seen:
    """A state folder with one process's pulse, and what a look finds."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.now = 100.0
        self.ticks: int | None = 7
        self.presence = Presence(state, clock=lambda: self.now, ticks_of=lambda pid: self.ticks)
        liveness_file(state, "openai_00").parent.mkdir()

    def look(self, now: float, *, stage: str = "serving", connected: bool = True, **polls: float) -> None:
        self.now = now
        record = LivenessRecord("openai_00", 4711, at=now, started_at=90.0, stage=stage, connected=connected)
        text = json.dumps({**vars(record), "queues": {"llm-openai": {"pollers": 5} | polls}})
        liveness_file(self.state, "openai_00").write_text(text, "utf-8")
        self.presence.look()

    @property
    def spans(self) -> list[Span]:
        return list(self.presence.spans.values())


def test_a_process_polls_from_its_first_pulse_with_a_poller_until_it_drains(seen: "Seen") -> None:
    seen.look(98, connected=False)
    seen.look(99, failing_since=98)
    seen.look(100, pollers=0)
    assert seen.spans == []
    seen.look(101)
    seen.look(103, polled_at=102.5)
    seen.look(105, polled_at=104.5)
    seen.look(107, stage="draining", polled_at=106)
    assert seen.spans == [Span("llm-openai", "openai_00", 101, 105, 102.5)]


@pytest.mark.parametrize("ticks", [None, 8], ids=["it is gone", "its pid is another's"])
def test_a_pulse_that_a_dead_process_left_does_not_count(seen: "Seen", ticks: int | None) -> None:
    seen.look(101)
    assert seen.presence.polled(["llm-openai"], since=0) and not seen.presence.polled(["llm-openai"], since=101)
    seen.ticks = ticks
    seen.look(105)
    assert [span.until for span in seen.spans] == [101]
    assert not seen.presence.polled(["llm-openai"], since=0)
