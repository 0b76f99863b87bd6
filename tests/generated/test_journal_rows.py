"""Whatever stands in a journal's rows, by damage or by another release, the same journal serves the next call."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from fleet.config import load_settings
from fleet.control.pipelines.journal_rows import journal_rows
from fleet.execution.assistant_results import About, result_of
from fleet.execution.journal import Journal
from fleet.execution.journal_records import Answered, Asked, CallName, Send, Task
from fleet.execution.recorded_answer import Recorded
from fleet.process.process_id import Owner
from fleet.providers.base import LlmAnswer
from tests.generated.inputs import TEXTS, changed, check_each

ANSWER = LlmAnswer("Hello.", "gpt-4o", "stop", 5, 7, 1, {"input_tokens": 5}, {"x-simulator": "true"}, "flex")
STORED = Recorded(ANSWER, "2026-01-31T00:00:00Z", 1.5, 2, 0).to_json()
ABOUT = About("gpt-4o", "fleet-1", 1, {"type": "object"}).to_json()
NAME, NEXT = CallName("key", "workflow", "brief"), CallName("next", "workflow", "draft")
TASK = Task(b"token", "workflow", "run", "brief")
STATES = ["answered", "answered", "answered", "intent", "failed", "unsure", "cut_off", "of_a_newer_release", ""]
DEEP = "[" * 5_000
#: What a cell of each column's type may have.
STORABLE = TEXTS.map(lambda text: text.encode("utf-8", "replace").decode())
WHOLE = st.integers(0, 2**62)
POINTS = st.floats(allow_nan=False)
CELLS = {
    "answer": changed(json.loads(STORED)).map(json.dumps) | STORABLE | st.just(DEEP) | st.just('{"answer": 1}'),
    "response_id": STORABLE | st.none(),
    "boot": STORABLE,
    "pid": WHOLE,
    "started": WHOLE,
    "maybe_paid": WHOLE,
    "deadline": POINTS,
    "updated": POINTS,
}
ABOUTS = changed(json.loads(ABOUT)).map(json.dumps) | STORABLE | st.just(DEEP)


@st.composite
def rows(draw: st.DrawFn) -> tuple[dict[str, Any], str]:
    """The changed cells of an answered call, and what its answer is delivered with."""
    # Which inputs are generated also depends on the modules that are loaded; many of them have to be good ones.
    answer = STORED if draw(st.booleans()) else draw(CELLS["answer"])
    row: dict[str, Any] = {"state": draw(st.sampled_from(STATES)), "answer": answer}
    for column in draw(st.sets(st.sampled_from(sorted(CELLS)), max_size=2)):
        row[column] = draw(CELLS[column])
    return row, draw(ABOUTS)


class Damaged:
    """A journal, and another connection that changes the row of a call in it."""

    def __init__(self, folder: Path) -> None:
        self.settings = load_settings(api_base_url="http://localhost:1", state_dir=folder)
        path = folder / "journal" / "openai.db"
        self.journal = Journal(path, max_bytes=50_000_000, keep_seconds=1e18, clock=lambda: 1000.0)
        self.journal.hold(TASK)
        self.other = sqlite3.connect(path, isolation_level=None)
        self.other.execute("PRAGMA synchronous=OFF")

    def put(self, row: dict[str, Any], about: str) -> None:
        owner = Owner.current()
        good = {"pid": owner.pid, "started": owner.started, "boot": owner.boot, "deadline": 2000.0}
        names = {"key": NAME.key, "workflow_id": NAME.workflow_id, "function_key": NAME.function_key}
        cells = names | good | {"response_id": None, "maybe_paid": 0, "updated": 1.0} | row
        columns, places = ", ".join(cells), ", ".join("?" for _ in cells)
        self.other.execute(f"INSERT OR REPLACE INTO calls ({columns}) VALUES ({places})", list(cells.values()))
        self.other.execute("INSERT OR REPLACE INTO asked VALUES (?, ?, ?)", (NAME.key, "run", about))

    def check(self, given: tuple[dict[str, Any], str]) -> bool:
        """Whether the row has an answer that is used."""
        self.put(*given)
        for row in journal_rows(self.settings, NAME.workflow_id).values():
            row.sentence()
        self._deliver()
        used = self._ask_again()
        self.journal.counts()
        self.journal.prune()
        assert self.journal.answer(NEXT, Asked("run", ABOUT)) == Answered(STORED, 0)
        return used

    def _deliver(self) -> None:
        """As the recovery does, which reports a ValueError and goes on."""
        for left in self.journal.left([TASK.token]):
            if left.answer:
                try:
                    recorded, about = Recorded.from_json(left.answer, left.maybe_paid), About.from_json(left.about)
                except ValueError:
                    continue
                about.takes(recorded.answer)
                result = result_of(self.settings.provider("openai"), "brief", about, recorded, 0)
                json.dumps(vars(result), allow_nan=False)

    def _ask_again(self) -> bool:
        """As a call runner does: an answer is used, or is a call that was paid without a usable answer."""
        state = self.journal.begin(NAME, deadline=2000.0)
        used = isinstance(state, Answered)
        if isinstance(state, Answered):
            try:
                assert isinstance(Recorded.from_json(state.answer, state.maybe_paid).answer.text, str)
            except ValueError:
                used = False
                self.journal.unreadable(NAME, state.answer)
                state = self.journal.begin(NAME, deadline=2000.0)
                assert isinstance(state, Send) and (state.maybe_paid or state.response_id is not None)
        self.journal.answered(NAME, STORED)
        return used


@pytest.fixture
def damaged(tmp_path: Path) -> Iterator[Damaged]:
    made = Damaged(tmp_path)
    made.journal.begin(NEXT, deadline=2000.0)
    made.journal.answered(NEXT, STORED)
    with made.journal, closing(made.other):
        yield made


def test_any_row_of_a_journal_is_read_or_counts_as_a_call_that_was_paid_in_vain(damaged: Damaged) -> None:
    answers = ["", "5", "[]", '{"answer": 1}', '{"answer": {"text": 5}}', DEEP]
    known = [({"state": "answered", "answer": answer}, ABOUT) for answer in answers]
    known += [({"state": "of_a_newer_release"}, ABOUT), ({"state": "answered", "answer": STORED}, DEEP)]
    check_each("journal rows", rows(), damaged.check, known, min_share=0.02)
