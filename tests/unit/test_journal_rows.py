"""What is read of the calls of a pipeline from this machine's journals, while their processes use them."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.config import Settings, load_settings
from fleet.control.pipelines.journal_rows import journal_rows
from fleet.execution.journal import Journal
from fleet.execution.journal_records import CallName
from fleet.process.process_id import Owner


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(API_BASE_URL="http://localhost:8000", state_dir=tmp_path)


@pytest.fixture
def openai(settings: Settings) -> Iterator[Journal]:
    with Journal.of(settings, "openai") as journal:
        yield journal


def begin(journal: Journal, function_key: str, workflow_id: str = "p-1") -> CallName:
    name = CallName(f"{workflow_id}/{function_key}", workflow_id, function_key)
    journal.begin(name, deadline=time.time() + 600)
    return name


def test_each_assistant_has_the_state_of_its_latest_call(settings: Settings, openai: Journal) -> None:
    begin(openai, "brief")
    openai.answered(begin(openai, "draft"), "text")
    openai.resumable(begin(openai, "review"), "response-1")
    begin(openai, "brief", "p-2")
    before = time.time()
    found = journal_rows(settings, "p-1")
    assert {key: row.state for key, row in found.items()} == {
        "brief": "intent",
        "draft": "answered",
        "review": "intent",
    }
    assert all(row.alive and before - 60 < row.at <= time.time() for row in found.values())
    assert [found[key].resumable for key in ("brief", "draft", "review")] == [False, False, True]


def test_a_call_whose_process_has_died_is_known_as_such(settings: Settings, tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    dead = Owner(process.pid, 1, Owner.current().boot)
    path = tmp_path / "journal" / "gemini.db"
    with Journal(path, max_bytes=100_000_000, keep_seconds=60, owner=dead) as journal:
        begin(journal, "brief")
    assert not journal_rows(settings, "p-1")["brief"].alive


def test_the_later_of_two_providers_counts(settings: Settings, openai: Journal) -> None:
    openai.cut_off(begin(openai, "brief"))
    with Journal.of(settings, "gemini") as gemini:
        gemini.answered(begin(gemini, "brief"), "text")
    assert journal_rows(settings, "p-1")["brief"].state == "answered"


def test_looking_makes_no_journal_and_a_damaged_one_hides_no_other(settings: Settings, openai: Journal) -> None:
    begin(openai, "brief")
    damaged = settings.state_dir / "journal" / "anthropic.db"
    damaged.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    assert set(journal_rows(settings, "p-1")) == {"brief"}
    assert not (settings.state_dir / "journal" / "gemini.db").exists()
