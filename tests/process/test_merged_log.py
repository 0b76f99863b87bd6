"""The merged log holds every line once, over rotations, restarts and kills; what it could not have, it tells."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import pytest
from loguru import logger

from bench.soak.log_lines import merge_under_kills, merged_lines
from fleet.control.logs.log_files import Reader, Wanted, parse
from fleet.control.logs.merged_log import MERGED_LOG, Merger
from fleet.errors import OperationError


def test_every_line_of_six_processes_is_there_once_over_rotations_and_kills(tmp_path: Path) -> None:
    """In small; `scripts/soak.sh logs` does it with two hundred thousand lines."""
    found = merge_under_kills(tmp_path, lines=3_000, a_second=500, rotation_mb=0.05)
    assert found.well, found
    assert found.lines >= 18_000 and found.kills >= 3
    assert found.rotated >= 4, "the writers' files were rotated meanwhile"


def write(path: Path, first: int, count: int, second: int = 0) -> None:
    with path.open("a", encoding="utf-8") as file:
        for number in range(first, first + count):
            file.write(f"2026-01-01 00:00:{second:02d}.{number:03d} | INFO    | openai_00 | - | line {number}\n")


def rotate(logs: Path, number: int) -> None:
    (logs / "openai_00.log").rename(logs / f"openai_00.2026-01-01_00-00-{number:02d}_000001.log")


def merger_of(folder: Path) -> Merger:
    return Merger(folder, folder, 1_000_000, 5)


def test_a_merger_that_was_away_for_four_rotations_has_all(tmp_path: Path) -> None:
    write(tmp_path / "openai_00.log", 0, 5)
    merger_of(tmp_path).merge()
    for number in range(4):
        write(tmp_path / "openai_00.log", 5 + 5 * number, 5)
        rotate(tmp_path, number)
    write(tmp_path / "openai_00.log", 25, 5)
    assert merger_of(tmp_path).merge() == 25
    lines = [line.rpartition(" ")[2] for line in merged_lines(tmp_path)]
    assert lines == [str(number) for number in range(30)]


def test_what_was_rotated_away_unread_is_told_with_its_times(tmp_path: Path) -> None:
    write(tmp_path / "openai_00.log", 0, 5)
    merger_of(tmp_path).merge()
    (tmp_path / "openai_00.log").unlink()
    write(tmp_path / "openai_00.log", 50, 5, second=7)
    lost: list[str] = []
    merger = Merger(tmp_path, tmp_path, 1_000_000, 5, lost.append)
    with saying() as said:
        assert merger.merge() == 5
        assert merger.merge() == 0
    (told,) = (line for line in said if "📭 LOG LINES LOST" in line)
    assert "openai_00" in told and "how much it was cannot be known" in told
    assert "2026-01-01 00:00:00.004 (the last" in told and "2026-01-01 00:00:07.050 (the first" in told
    assert lost == ["openai_00"]


def test_what_was_seen_before_it_was_gone_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "openai_00.log"
    write(path, 0, 5)
    merger = merger_of(tmp_path)
    merger.merge()
    read = path.stat().st_size
    for number in range(2):
        rotate(tmp_path, number)
        write(path, 5 + 5 * number, 5, second=1)
    merge_in_vain(merger)
    gone = sum(file.stat().st_size for file in tmp_path.glob("openai_00*.log")) - read
    for file in tmp_path.glob("openai_00*.log"):
        file.unlink()
    write(path, 50, 5, second=7)
    with saying() as said:
        merger.merge()
    assert any(f"2 files with {gone:,} bytes" in line for line in said), said


def test_a_log_that_somebody_removes_is_not_merged_twice(tmp_path: Path) -> None:
    path = tmp_path / "openai_00.log"
    for number in range(3):
        write(path, 5 * number, 5)
        rotate(tmp_path, number)
    write(path, 15, 5)
    merger = merger_of(tmp_path)
    merger.merge()
    path.unlink()
    assert merger.merge() == 0 and merger_of(tmp_path).merge() == 0
    write(path, 20, 5)
    assert merger.merge() == 5
    assert numbers_in(tmp_path) == list(range(25))


def test_a_process_that_is_seen_late_may_have_had_more(tmp_path: Path) -> None:
    for number in range(5):
        write(tmp_path / "openai_00.log", 5 * number, 5)
        rotate(tmp_path, number)
    write(tmp_path / "openai_00.log", 25, 5)
    write(tmp_path / "gemini_00.log", 0, 5)
    with saying() as said:
        merger_of(tmp_path).merge()
    (told,) = (line for line in said if "merged for the first time" in line)
    assert "openai_00" in told and "6 files" in told


@pytest.mark.parametrize("taken", range(1, 11))
def test_rotations_in_the_midst_of_reading_lose_nothing(tmp_path: Path, taken: int) -> None:
    path = tmp_path / "openai_00.log"
    write(path, 0, 5)
    rotate(tmp_path, 1)
    write(path, 5, 5)
    reader = Reader(tmp_path, "openai_00")
    reading = reader.read()
    seen = [next(reading).message for _ in range(taken)]
    for number in (2, 3):
        write(path, 5 * number, 5)
        rotate(tmp_path, number)
    write(path, 20, 5)
    seen += [record.message for record in reading]
    seen += [record.message for record in reader.read()]
    assert seen == [f"line {number}" for number in range(25)] and not reader.losses


@pytest.mark.parametrize("moment", range(16))
def test_a_rotation_at_any_moment_of_a_look_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Whichever file is about to be opened: the current one gets another name in this moment."""
    path = tmp_path / "openai_00.log"
    for number in range(2):
        write(path, 5 * number, 5)
        rotate(tmp_path, number)
    write(path, 10, 5)
    opened, moments = Path.open, iter(range(100))

    def rotate_and_open(self: Path, mode: str = "r", **how: str) -> IO[Any]:
        if next(moments) == moment:
            write(path, 15, 5)
            rotate(tmp_path, 3)
            write(path, 20, 1)
        return opened(self, mode, **how)

    monkeypatch.setattr(Path, "open", rotate_and_open)
    reader = Reader(tmp_path, "openai_00")
    seen = [record.message for record in (*reader.read(), *reader.read())]
    assert next(moments) > 16, "the file was renamed during the test"
    assert seen == [f"line {number}" for number in range(21)] and not reader.losses


def test_the_half_line_of_a_process_that_died_is_read_when_its_file_is_full(tmp_path: Path) -> None:
    with (tmp_path / "openai_00.log").open("w", encoding="utf-8") as file:
        file.write("2026-01-01 00:00:00.500 | INFO    | openai_00 | - | half")
    rotate(tmp_path, 1)
    write(tmp_path / "openai_00.log", 1, 1)
    assert [record.message for record in Reader(tmp_path, "openai_00").read()] == ["half", "line 1"]


@pytest.mark.parametrize("room", [0, 100, 333, 700, 2000])
def test_a_full_disk_loses_nothing_once_there_is_room_again(tmp_path: Path, room: int) -> None:
    """Where there is no room for all lines, for the commit, or for either."""
    path = tmp_path / "openai_00.log"
    write(path, 0, 5)
    merger = merger_of(tmp_path)
    merger.merge()
    write(path, 5, 50)
    merge_in_vain(merger, room)
    rotate(tmp_path, 1)
    merge_in_vain(merger, room)
    write(path, 55, 5)
    merge_in_vain(merger, room)
    merger.merge()
    assert numbers_in(tmp_path) == list(range(60))
    assert merger_of(tmp_path).merge() == 0


def test_a_first_merger_that_is_killed_doubles_nothing(tmp_path: Path) -> None:
    """Beside a file of that name that was there before."""
    (tmp_path / MERGED_LOG).write_text("written by an older release | line 0\n", "utf-8")
    write(tmp_path / "openai_00.log", 1, 5)
    merge_in_vain(merger_of(tmp_path), 300)
    assert merger_of(tmp_path).merge() == 5
    assert numbers_in(tmp_path) == list(range(6))


def merge_in_vain(merger: Merger, room: int = 0) -> None:
    """Merge while no file may grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(OperationError, match="Remedy: make room"):
            merger.merge()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def saying() -> Iterator[list[str]]:
    """What is logged in the block."""
    said: list[str] = []
    handler = logger.add(said.append, format="{message}")
    try:
        yield said
    finally:
        logger.remove(handler)


def numbers_in(logs: Path) -> list[int]:
    return [int(line.rpartition(" ")[2]) for line in merged_lines(logs)]


def test_what_was_written_after_the_last_commit_is_cut_off_and_read_again(tmp_path: Path) -> None:
    write(tmp_path / "openai_00.log", 0, 5)
    merger_of(tmp_path).merge()
    write(tmp_path / "openai_00.log", 5, 5)
    with (tmp_path / MERGED_LOG).open("a", encoding="utf-8") as file:
        file.write("half of what a killed merger wro")
    merger_of(tmp_path).merge()
    assert [line.rpartition(" ")[2] for line in merged_lines(tmp_path)] == [str(number) for number in range(10)]


def test_a_line_that_is_being_written_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "openai_00.log"
    write(path, 0, 1)
    with path.open("a", encoding="utf-8") as file:
        file.write("2026-01-01 00:00:00.500 | INFO    | openai_00 | - | half")
    reader = Reader(tmp_path, "openai_00")
    assert [record.message for record in reader.read()] == ["line 0"]
    with path.open("a", encoding="utf-8") as file:
        file.write(" and whole\n    ┆ with a second line\n")
    (record,) = reader.read()
    assert record.message == "half and whole" and record.text.endswith("    ┆ with a second line")


def test_records_are_read_in_either_form() -> None:
    text = "2026-01-31 10:00:00.123 | ERROR   | openai_00 | workflow_id=seo-1 provider=openai | broken | pipe"
    plain = parse(text, "openai_00")
    assert (plain.level, plain.message) == ("ERROR", "broken | pipe")
    assert plain.context == {"workflow_id": "seo-1", "provider": "openai"}
    machine = parse(
        '{"time": "2026-01-31T10:00:00.123456+00:00", "level": "INFO", "provider": "groq", "message": "m"}',
        "groq_00",
    )
    assert machine.context == {"provider": "groq"} and machine.time.microsecond == 123456
    assert parse("no log line at all", "openai_00").time == datetime.min


def test_only_what_is_wanted_is_shown() -> None:
    record = parse("2026-01-31 10:00:00.123 | WARNING | openai_00 | workflow_id=seo-1 | m", "openai_00")
    assert Wanted(workflow="seo", provider="openai", least="WARNING").takes(record)
    for other in (
        Wanted(workflow="other"),
        Wanted(provider="gemini"),
        Wanted(least="ERROR"),
        Wanted(process="x_00"),
    ):
        assert not other.takes(record)
    assert not Wanted(since=datetime(2026, 2, 1)).takes(record)
