"""The journal: what it says of a call, over crashes at every step and many processes at once."""

import os
import shutil
import stat
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fleet.errors import JournalUnavailable, ProviderError
from fleet.execution.journal import ANSWER_ROOM_BYTES, Journal
from fleet.execution.journal_records import Ambiguous, Answered, Asked, CallName, Left, Send, Task, Wait
from fleet.failures import FailureKind
from fleet.process.process_id import Owner, boot_id, start_ticks

NAME = CallName("key", "workflow", "draft")
ASKED = Asked("run", "about")


def task(token: bytes, run_id: str = ASKED.run_id) -> Task:
    return Task(token, NAME.workflow_id, run_id, NAME.function_key)


LARGE = 100_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def opened(
    path: Path,
    owner: Owner | None = None,
    clock: Clock | None = None,
    max_bytes: int = LARGE,
    machine: str = "",
) -> Journal:
    return Journal(
        path, max_bytes=max_bytes, keep_seconds=3600, owner=owner, clock=clock or Clock(), machine=machine
    )


def begun(journal: Journal, **options: int) -> object:
    return journal.begin(NAME, deadline=1600.0, **options)


def dead() -> Owner:
    """A process that is gone."""
    return Owner(2**22 + 1, 1, Owner.current().boot)


def living() -> Owner:
    """A process that is there for as long as the tests run: their parent."""
    return Owner(os.getppid(), start_ticks(os.getppid()) or 0, boot_id())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal" / "openai.db"


def test_an_answer_is_kept_and_given_to_every_later_attempt(path: Path) -> None:
    with opened(path) as journal:
        assert begun(journal) == Send(0)
        journal.answered(NAME, "text")
    with opened(path, dead()) as other:
        assert begun(other) == Answered("text", 0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_call_of_a_living_process_is_waited_for_until_its_deadline(path: Path) -> None:
    clock, owner = Clock(), living()
    with opened(path, owner, clock) as theirs, opened(path, clock=clock) as ours:
        begun(theirs)
        assert begun(ours) == Wait(owner, 1600.0)
        clock.now = 1601.0
        assert ours.begin(NAME, deadline=2200.0) == Send(1)


def test_the_call_of_a_dead_process_may_be_paid_twice_and_is_counted(path: Path) -> None:
    with opened(path, dead()) as theirs, opened(path) as ours:
        begun(theirs)
        assert begun(ours, send_ambiguous=False) == Ambiguous(1)
        assert begun(ours) == Send(1)
        ours.cut_off(NAME)
        assert begun(ours) == Send(2)


def test_a_failed_call_is_sent_again_and_an_unsure_one_is_counted(path: Path) -> None:
    with opened(path) as journal:
        begun(journal)
        journal.failed(NAME)
        assert begun(journal, send_ambiguous=False) == Send(0)
        journal.failed(NAME, unsure=True)
        assert begun(journal, send_ambiguous=False) == Ambiguous(1)
        assert begun(journal) == Send(1)


def test_it_vouches_for_its_own_host_only(path: Path) -> None:
    with opened(path) as journal:
        assert begun(journal, maybe_paid=1, send_ambiguous=False) == Ambiguous(1)
        assert begun(journal, maybe_paid=1) == Send(1)


def test_a_journal_that_was_copied_to_another_machine_is_another_place_and_holds_none_of_its_tasks(
    path: Path,
) -> None:
    with opened(path, dead(), machine="one") as there:
        place = there.place()
        there.hold(task(b"token"))
        begun(there)
        there.answered(NAME, "answer")
    copied = path.with_name("copied.db")
    shutil.copy(path, copied)
    with opened(copied, machine="two") as here:
        assert here.place() != place
        assert here.take_orphans() == [], "whoever works on it may live on there"
        assert begun(here) == Answered("answer", 0)
    with opened(path, machine="one") as there:
        assert there.place() == place and there.take_orphans() == [b"token"]


def test_a_call_that_comes_back_from_another_host_counts_what_was_sent_there(path: Path) -> None:
    with opened(path) as journal:
        begun(journal)
        journal.failed(NAME)
        assert begun(journal, maybe_paid=1, send_ambiguous=False) == Ambiguous(1)
        assert begun(journal, maybe_paid=1) == Send(1)
        journal.failed(NAME, unsure=True)
        assert begun(journal, maybe_paid=2) == Send(2), "it is one of them"
        assert begun(journal, maybe_paid=4) == Send(4)


def test_a_call_that_goes_on_at_the_provider_is_picked_up_and_not_counted(path: Path) -> None:
    with opened(path, dead()) as theirs, opened(path) as ours:
        begun(theirs)
        theirs.resumable(NAME, "resp_1")
        assert begun(ours, send_ambiguous=False) == Send(0, "resp_1")


def test_what_a_dead_process_held_is_given_out_once(path: Path) -> None:
    with opened(path, dead()) as theirs, opened(path) as ours:
        theirs.hold(task(b"held"))
        theirs.hold(task(b"done"))
        theirs.hold(task(b"held too"), [b"done"])
        ours.hold(task(b"mine"))
        assert sorted(ours.take_orphans()) == [b"held", b"held too"]
        assert ours.take_orphans() == []


def test_what_is_known_of_a_tasks_calls_is_told(path: Path) -> None:
    ours_alone = task(b"token")
    with opened(path, dead()) as theirs, opened(path) as ours:

        def left() -> Left:
            (found,) = ours.left([b"token"])
            return found

        theirs.hold(ours_alone)
        assert left() == Left(ours_alone), "nothing was sent"
        theirs.begin(NAME, deadline=1600.0, asked=ASKED)
        assert left() == Left(ours_alone, maybe_paid=1), "its process is dead"
        theirs.resumable(NAME, "resp_1")
        assert left() == Left(ours_alone, response_id="resp_1")
        ours.begin(NAME, deadline=9e9, asked=ASKED)
        assert left() == Left(ours_alone, running=True)
        ours.failed(NAME)
        assert left() == Left(ours_alone)
        ours.answered(NAME, "text")
        assert left() == Left(ours_alone, answer="text", about="about", paid_in_all=1)
        ours.hold(task(b"a new run", "another run"))
        assert ours.left([b"a new run"]) == [Left(task(b"a new run", "another run"))]
        assert ours.answer(NAME, Asked("another run", "about")) == Answered("text", 0)
        assert ours.left([b"a new run"])[0].answer == "text", "a retry found it"
        assert ours.left([b"of 0.1.0"])[0].untold


def test_tasks_that_have_been_reported_are_let_go(path: Path) -> None:
    with opened(path) as journal:
        journal.hold(task(b"first"))
        journal.hold(task(b"second"), [b"first"])
        journal.hold(task(b"third"))
        journal.let_go([b"second"])
        assert [left.untold for left in journal.left([b"first", b"second", b"third"])] == [True, True, False]


def test_who_waits_for_anothers_call_writes_nothing(path: Path) -> None:
    with opened(path, living()) as theirs, opened(path) as ours:
        theirs.begin(NAME, deadline=1600.0, asked=ASKED)
        written = path.with_name(f"{path.name}-wal").stat().st_size
        for _ in range(5):
            assert isinstance(ours.begin(NAME, deadline=1600.0, asked=ASKED), Wait)
        assert path.with_name(f"{path.name}-wal").stat().st_size == written


def test_its_calls_are_counted_by_state(path: Path) -> None:
    with opened(path, dead()) as theirs, opened(path) as ours:
        assert set(ours.counts().by_state.values()) == {0}
        begun(theirs)
        begun(ours)
        ours.answered(NAME, "text")
        theirs.begin(CallName("other", "workflow", "seo"), deadline=1600.0)
        counts = ours.counts()
    assert (counts.by_state["answered"], counts.by_state["intent"], counts.maybe_paid) == (1, 1, 1)


def test_what_is_old_is_forgotten(path: Path) -> None:
    clock = Clock()
    with opened(path, clock=clock) as journal:
        begun(journal)
        journal.answered(NAME, "text")
        assert journal.prune() == 0
        clock.now += 3601
        assert journal.prune() == 1
        assert journal.begin(NAME, deadline=clock.now + 1) == Send(0)


def filled(journal: Journal, clock: Clock, count: int) -> list[CallName]:
    """Answered calls of 300 kB each."""
    names = [CallName(f"key-{number}", f"workflow-{number}", "draft") for number in range(count)]
    for name in names:
        clock.now += 1
        assert isinstance(journal.begin(name, deadline=1e9), Send)
        journal.answered(name, "x" * 300_000)
    return names


def test_a_full_journal_drops_the_oldest_of_what_pipelines_need_no_more(path: Path) -> None:
    clock = Clock()
    with opened(path, clock=clock, max_bytes=ANSWER_ROOM_BYTES * 2) as journal:
        names = filled(journal, clock, 12)
        journal.settled(names[1:4])
        names += [CallName(f"late-{number}", "late", "draft") for number in range(3)]
        for name in names[12:]:
            assert isinstance(journal.begin(name, deadline=1e9), Send)
            journal.answered(name, "x" * 300_000)
        assert journal.begin(names[1], deadline=1e9) == Send(0), "the oldest that was settled"
        for name in [names[0], *names[4:]]:
            assert isinstance(journal.begin(name, deadline=1e9), Answered)


def test_a_probe_finds_what_a_call_would_and_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(path) as journal:
        journal.see_writable()
        assert journal.counts().by_state == dict.fromkeys(journal.counts().by_state, 0)
        full = shutil.disk_usage(path.parent)._replace(free=1_000)
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: full)
        with pytest.raises(JournalUnavailable, match="the disk is full"):
            journal.see_writable()
    path.unlink()
    path.mkdir()
    with opened(path) as journal, pytest.raises(JournalUnavailable):
        journal.see_writable()


def test_a_journal_full_of_what_pipelines_need_refuses_calls_before_they_are_sent(path: Path) -> None:
    clock = Clock()
    with opened(path, clock=clock, max_bytes=ANSWER_ROOM_BYTES * 2) as journal:
        with pytest.raises(JournalUnavailable, match="answers that pipelines still need"):
            filled(journal, clock, 40)
        assert isinstance(journal.begin(CallName("key-0", "workflow-0", "draft"), deadline=1e9), Answered)


def test_a_call_that_is_begun_again_is_needed_again(path: Path) -> None:
    clock = Clock()
    with opened(path, clock=clock) as journal:
        names = filled(journal, clock, 3)
        journal.settled(names)
        assert isinstance(journal.begin(names[0], deadline=1e9), Answered)
    with opened(path, clock=clock, max_bytes=ANSWER_ROOM_BYTES // 4) as small:
        assert small.unsettled() == [names[0]]


def test_only_a_journal_that_fills_up_asks_what_it_may_forget(path: Path) -> None:
    clock = Clock()
    with opened(path, clock=clock) as journal:
        filled(journal, clock, 3)
        assert journal.unsettled() == []
    with opened(path, clock=clock, max_bytes=ANSWER_ROOM_BYTES // 4) as small:
        assert len(small.unsettled()) == 3


def test_a_damaged_file_is_named_before_anything_is_sent(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is no database" * 100)
    with opened(path) as journal, pytest.raises(JournalUnavailable, match=r"openai\.db cannot be written"):
        begun(journal)


def test_calls_of_many_threads_are_each_sent_once(path: Path) -> None:
    budget_statuses: list[object] = []
    with opened(path) as journal:
        begun(journal)
        journal.answered(NAME, "text")
        threads = [threading.Thread(target=lambda: budget_statuses.append(begun(journal))) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert budget_statuses == [Answered("text", 0)] * 20


KEYS = ("a", "b")


@dataclass
class Sending:
    """One sending of a call: by whom, and how it ended: ``open``, ``not billed`` or ``maybe billed``."""

    by: str
    deadline: float
    end: str = "open"


class Calling(RuleBasedStateMachine):
    """Processes that live, and one that dies at every call it begins, send calls, are answered, fail in every way,
    give up or fall silent. The model keeps how each sending of a call ended, from which every verdict follows."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        path = Path(self.folder.name) / "journal.db"
        self.owners = {"ours": Owner.current(), "theirs": living(), "dying": dead()}
        self.journals = {name: opened(path, owner, self.clock) for name, owner in self.owners.items()}
        self.sendings: dict[str, list[Sending]] = {key: [] for key in KEYS}
        self.answers: dict[str, tuple[str, int]] = {}

    def maybe_paid(self, key: str) -> int:
        return sum(sending.end != "not billed" for sending in self.sendings[key])

    def expected(self, key: str, by: str, send_ambiguous: bool) -> object:
        if key in self.answers:
            return Answered(*self.answers[key])
        last = self.sendings[key][-1] if self.sendings[key] else None
        theirs = last is not None and last.end == "open" and last.by not in (by, "dying")
        if last is not None and theirs and self.clock.now < last.deadline:
            return Wait(self.owners[last.by], last.deadline)
        count = self.maybe_paid(key)
        return Send(count) if send_ambiguous or count == 0 else Ambiguous(count)

    @rule(key=st.sampled_from(KEYS), by=st.sampled_from(["ours", "theirs", "dying"]), send=st.booleans())
    def attempt(self, key: str, by: str, send: bool) -> None:
        expected, deadline = self.expected(key, by, send), self.clock.now + 600
        name = CallName(key, "workflow", key)
        assert self.journals[by].begin(name, deadline=deadline, send_ambiguous=send) == expected
        if isinstance(expected, Send):
            self.sendings[key].append(Sending(by, deadline))

    def last_open(self, key: str) -> "Sending | None":
        last = self.sendings[key][-1] if self.sendings[key] and key not in self.answers else None
        return last if last is not None and last.end == "open" and last.by != "dying" else None

    @rule(key=st.sampled_from(KEYS))
    def answer(self, key: str) -> None:
        if sending := self.last_open(key):
            self.answers[key] = (f"answer {len(self.sendings[key])}", self.maybe_paid(key) - 1)
            self.journals[sending.by].answered(CallName(key, "workflow", key), self.answers[key][0])

    @rule(
        key=st.sampled_from(KEYS),
        failure_kind=st.sampled_from(FailureKind),
        by=st.sampled_from(["ours", "theirs"]),
    )
    def fail(self, key: str, failure_kind: FailureKind, by: str) -> None:
        """Only of its own call may a process say that."""
        unsure = ProviderError(failure_kind, "openai", "…").may_be_billed
        self.journals[by].failed(CallName(key, "workflow", key), unsure=unsure)
        if (sending := self.last_open(key)) and sending.by == by:
            sending.end = "maybe billed" if unsure else "not billed"

    @rule(key=st.sampled_from(KEYS), by=st.sampled_from(["ours", "theirs"]))
    def give_up(self, key: str, by: str) -> None:
        if (sending := self.last_open(key)) and sending.by == by:
            self.journals[by].cut_off(CallName(key, "workflow", key))
            sending.end = "maybe billed"

    @rule()
    def fall_silent(self) -> None:
        self.clock.now += 700

    @invariant()
    def every_answer_is_there_for_all(self) -> None:
        for key, answer in self.answers.items():
            for journal in self.journals.values():
                assert journal.begin(CallName(key, "workflow", key), deadline=9e9) == Answered(*answer)

    def teardown(self) -> None:
        for journal in self.journals.values():
            journal.close()
        self.folder.cleanup()


TestCalling = Calling.TestCase
TestCalling.settings = hypothesis_settings(max_examples=60, stateful_step_count=30, deadline=None)
