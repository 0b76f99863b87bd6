"""The journal: what it says of a call, over crashes at every step and many processes at once."""

import os
import stat
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from fleet.errors import JournalUnavailable
from fleet.journal import ANSWER_ROOM_BYTES, Ambiguous, Answered, CallName, Journal, Send, Wait
from fleet.processes import Owner, boot_id, start_ticks

NAME = CallName("key", "workflow", "draft")
LARGE = 100_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def opened(path: Path, owner: Owner | None = None, clock: Clock | None = None, max_bytes: int = LARGE) -> Journal:
    return Journal(path, max_bytes=max_bytes, keep_seconds=3600, owner=owner, clock=clock or Clock())


def begun(journal: Journal, **options: bool) -> object:
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
        assert begun(journal) == Send(1)


def test_it_vouches_for_its_own_host_only(path: Path) -> None:
    with opened(path) as journal:
        assert begun(journal, unknown_before=True, send_ambiguous=False) == Ambiguous(1)
        assert begun(journal, unknown_before=True) == Send(1)


def test_a_call_that_goes_on_at_the_provider_is_picked_up_and_not_counted(path: Path) -> None:
    with opened(path, dead()) as theirs, opened(path) as ours:
        begun(theirs)
        theirs.resumable(NAME, "resp_1")
        assert begun(ours, send_ambiguous=False) == Send(0, "resp_1")


def test_what_a_dead_process_held_is_given_out_once(path: Path) -> None:
    with opened(path, dead()) as theirs, opened(path) as ours:
        theirs.hold(b"held")
        theirs.hold(b"done")
        theirs.hold(b"held too", [b"done"])
        ours.hold(b"mine")
        assert sorted(ours.take_orphans()) == [b"held", b"held too"]
        assert ours.take_orphans() == []


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


def test_a_full_journal_drops_the_oldest_answers_and_never_a_call_in_flight(path: Path) -> None:
    clock = Clock()
    with opened(path, clock=clock, max_bytes=ANSWER_ROOM_BYTES * 2) as journal:
        for number in range(40):
            clock.now += 1
            name = CallName(f"key-{number}", "workflow", "draft")
            assert isinstance(journal.begin(name, deadline=1e9), Send)
            journal.answered(name, "x" * 300_000)
        assert journal.begin(CallName("key-0", "workflow", "draft"), deadline=1e9) == Send(0)
        assert isinstance(journal.begin(name, deadline=1e9), Answered)
    full = pytest.raises(JournalUnavailable, match="calls in flight")
    with opened(path, clock=clock, max_bytes=ANSWER_ROOM_BYTES) as journal, full:
        journal.begin(CallName("new", "workflow", "draft"), deadline=1e9)


def test_a_damaged_file_is_named_before_anything_is_sent(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is no database" * 100)
    with opened(path) as journal, pytest.raises(JournalUnavailable, match=r"openai\.db cannot be written"):
        begun(journal)


def test_calls_of_many_threads_are_each_sent_once(path: Path) -> None:
    standings: list[object] = []
    with opened(path) as journal:
        begun(journal)
        journal.answered(NAME, "text")
        threads = [threading.Thread(target=lambda: standings.append(begun(journal))) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert standings == [Answered("text", 0)] * 20


class Crashing(RuleBasedStateMachine):
    """Processes begin, answer, fail and die at any step; a model counts what the provider saw."""

    keys = Bundle("keys")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "journal.db"
        self.journal = opened(self.path, dead())
        self.answers: dict[str, str] = {}
        self.sent: dict[str, int] = {}
        self.open: set[str] = set()
        self.deaths = 0

    @rule(target=keys, key=st.sampled_from(["a", "b", "c"]))
    def name(self, key: str) -> str:
        return key

    @rule(key=keys)
    def attempt(self, key: str) -> None:
        standing = self.journal.begin(CallName(key, "workflow", key), deadline=9e9)
        if key in self.answers:
            assert standing == Answered(self.answers[key], standing.maybe_paid)  # type: ignore[union-attr]
            return
        assert isinstance(standing, Send)
        before = self.sent.get(key, 0)
        assert standing.maybe_paid <= before
        if key in self.open:
            assert standing.maybe_paid >= 1
        self.sent[key] = before + 1
        self.open.add(key)

    @rule(key=keys)
    def answer(self, key: str) -> None:
        if key in self.open:
            self.open.discard(key)
            self.answers[key] = f"answer {self.sent[key]}"
            self.journal.answered(CallName(key, "workflow", key), self.answers[key])

    @rule(key=keys)
    def fail(self, key: str) -> None:
        if key in self.open:
            self.open.discard(key)
            self.journal.failed(CallName(key, "workflow", key))

    @rule()
    def die(self) -> None:
        """The process goes without a word; the next one has another identity."""
        self.journal.close()
        self.deaths += 1
        self.journal = opened(self.path, Owner(2**22 + 1 + self.deaths, 1, Owner.current().boot))

    @invariant()
    def every_answer_is_there(self) -> None:
        for key, answer in self.answers.items():
            standing = self.journal.begin(CallName(key, "workflow", key), deadline=9e9)
            assert isinstance(standing, Answered) and standing.answer == answer

    def teardown(self) -> None:
        self.journal.close()
        self.folder.cleanup()


TestCrashing = Crashing.TestCase
TestCrashing.settings = hypothesis_settings(max_examples=40, stateful_step_count=25, deadline=None)
