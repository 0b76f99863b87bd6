"""Log lines: one record a line, keys removed, rotation, JSON."""

import json
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from fleet.config import Settings, load_settings
from fleet.process.logging import ProcessLog, setup_logging
from fleet.redaction import protect
from fleet.terminal import harmless


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    yield load_settings(api_base_url="http://localhost:8000", state_dir=tmp_path)
    logger.remove()


def lines(settings: Settings, process: str = "openai_00") -> list[str]:
    return (settings.logs / f"{process}.log").read_text("utf-8").splitlines()


def test_a_line_carries_what_is_bound_to_it(settings: Settings) -> None:
    setup_logging(settings, "openai_00")
    with logger.contextualize(workflow_id="w1", assistant="Brief", provider="openai"):
        logger.info("🤖 LLM REQUEST: {}/{}", "openai", "gpt-4o")
    (line,) = lines(settings)
    assert "| INFO    | openai_00 | workflow_id=w1 assistant=Brief provider=openai | 🤖 LLM REQUEST" in line


def test_foreign_text_cannot_forge_a_line(settings: Settings) -> None:
    setup_logging(settings, "openai_00")
    logger.info("LLM OUTPUT: {}", "one\n2026-01-01 | ERROR | forged\r\x1b[2J\u2028\u202e{braces} <red>")
    (line,) = lines(settings)
    assert r"one\n2026-01-01 | ERROR | forged\r\x1b[2J\u2028\u202e{braces} <red>" in line


def test_the_lines_of_a_traceback_are_indented_below_their_record(settings: Settings) -> None:
    setup_logging(settings, "openai_00")
    try:
        raise ValueError("first\n2026-01-01 | INFO | forged")
    except ValueError as error:
        logger.opt(exception=error).error("❌ ACTIVITY ERROR: {}", "execute_assistant")
    head, *rest = lines(settings)
    assert "❌ ACTIVITY ERROR: execute_assistant" in head
    assert rest and all(line.startswith("    ┆ ") for line in rest)
    assert any("ValueError: first" in line for line in rest)


def test_a_key_reaches_neither_line_nor_traceback_nor_context(settings: Settings) -> None:
    setup_logging(settings, "openai_00")
    protect("house-key-1234")
    with logger.contextualize(assistant="house-key-1234"):
        try:
            raise ValueError("house-key-1234 and sk-abcdefgh12345678")
        except ValueError as error:
            logger.opt(exception=error).error("with {}", "house-key-1234")
    text = "\n".join(lines(settings))
    assert "house-key" not in text and "sk-abcdefgh" not in text and "[key removed]" in text


def test_machines_get_one_json_object_a_line(tmp_path: Path) -> None:
    settings = load_settings(api_base_url="http://localhost:8000", state_dir=tmp_path, log_format="json")
    setup_logging(settings, "control_00")
    with logger.contextualize(workflow_id="w1"):
        try:
            raise ValueError("two\nlines")
        except ValueError as error:
            logger.opt(exception=error).error("žluťoučký\nkůň")
    logger.remove()
    (entry,) = [json.loads(line) for line in lines(settings, "control_00")]
    assert (entry["level"], entry["process"], entry["workflow_id"]) == ("ERROR", "control_00", "w1")
    assert entry["message"] == r"žluťoučký\nkůň"
    assert entry["traceback"][-1].startswith("lines") or "ValueError" in entry["traceback"][-2]


def test_debug_lines_are_written_only_when_asked_for(settings: Settings, tmp_path: Path) -> None:
    setup_logging(settings, "quiet")
    logger.debug("LLM INPUT: secret plans")
    assert lines(settings, "quiet") == []
    setup_logging(settings.model_copy(update={"log_level": "DEBUG"}), "loud")
    logger.debug("LLM INPUT: plans")
    assert len(lines(settings, "loud")) == 1


def test_a_file_is_rotated_by_size_and_the_oldest_backups_go(tmp_path: Path) -> None:
    settings = load_settings(
        api_base_url="http://localhost:8000", state_dir=tmp_path, log_rotation_mb=0.002, log_backups=2
    )
    setup_logging(settings, "openai_00")
    for number in range(200):
        logger.info("line {}", number)
    logger.remove()
    files = sorted(settings.logs.glob("openai_00*.log"))
    assert len(files) == 3
    assert all(file.stat().st_size <= 2_100 for file in files)
    assert "line 199" in lines(settings)[-1]


def test_a_line_that_cannot_be_written_is_counted(tmp_path: Path) -> None:
    dropped: list[int] = []
    log = ProcessLog(Path("/dev/full"), 1_000, 1, lambda: dropped.append(1))
    log.write("lost\n")
    log.write("lost\n")
    log.stop()
    assert len(dropped) == 2


def test_a_line_of_which_a_part_was_written_does_not_spoil_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped: list[int] = []
    log = ProcessLog(tmp_path / "openai_00.log", 1_000, 1, lambda: dropped.append(1))
    log.stop()
    monkeypatch.setattr(log, "_file", Filling(tmp_path / "openai_00.log", room=3))
    log.write("first\n")
    log.write("second\n")
    log.stop()
    assert (tmp_path / "openai_00.log").read_text("utf-8") == "fir\nsecond\n"
    assert len(dropped) == 1


class Filling(FileIO):
    """A file on a disk that has room for a part of the first line, and later for all."""

    def __init__(self, path: Path, room: int) -> None:
        super().__init__(path, "a")
        self.room: int | None = room

    def write(self, data: Any) -> int:
        room, self.room = self.room, None
        return super().write(data[:room])


@pytest.mark.parametrize("text", ["\ud800", "a\x00b", "\x85", "\u2069"])
def test_harmless_text_can_be_written_as_utf_8(text: str) -> None:
    assert harmless(text).isascii()
