"""What the guardian reads in supervisord's log."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from fleet.control.supervision.deaths import Deaths
from fleet.control.supervision.supervisord_home import Home

SPAWNED = "2026-01-31 12:00:00,001 INFO spawned: 'openai_00' with pid 42"
KILLED = "2026-01-31 12:00:09,001 WARN exited: openai_00 (terminated by SIGKILL; not expected)"
FAILED = "2026-01-31 12:00:19,001 WARN exited: gemini_00 (exit status 70; not expected)"
TERMINATED = "2026-01-31 12:00:29,001 INFO exited: control_00 (exit status 0; expected)"
STOPPED = "2026-01-31 12:00:39,001 INFO stopped: pipeline_00 (exit status 0)"
OVERDUE = "2026-01-31 12:00:49,001 WARN stopped: pipeline_01 (terminated by SIGKILL)"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home.at(tmp_path)
    home.logs.mkdir()
    (home.logs / "supervisord.log").write_text("2026-01-31 11:00:00,001 WARN exited: old_00 (exit status 1)\n")
    return home


@pytest.fixture
def said() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(line.rstrip()), format="{level} {message}", level="INFO")
    yield lines
    logger.remove(sink)


def supervisord_says(home: Home, *lines: str) -> None:
    with (home.logs / "supervisord.log").open("a") as log:
        log.writelines(f"{line}\n" for line in lines)


def test_a_death_is_told_with_its_signal_and_an_orderly_stop_is_not(home: Home, said: list[str]) -> None:
    deaths = Deaths(home)
    deaths.look()
    assert said == []
    supervisord_says(home, SPAWNED, KILLED, FAILED, TERMINATED, STOPPED, OVERDUE)
    deaths.look()
    deaths.look()
    assert said == [
        "WARNING 💀 PROCESS DIED: openai_00 (pid 42): terminated by SIGKILL at 12:00:09; if nobody sent it, the "
        "kernel may have for lack of memory: see journalctl -k",
        "WARNING 💀 PROCESS DIED: gemini_00: exit status 70 at 12:00:19",
        "INFO PROCESS ENDED: control_00: exit status 0 at 12:00:29, without having been stopped by supervisord",
        "WARNING 💀 PROCESS KILLED WHILE STOPPING: pipeline_01: terminated by SIGKILL at 12:00:49; it had "
        "stopwaitsecs to finish its calls",
    ]


def test_a_death_while_nobody_looked_is_told_once_also_over_a_rotation(home: Home, said: list[str]) -> None:
    Deaths(home).look()
    supervisord_says(home, KILLED)
    log = home.logs / "supervisord.log"
    log.rename(home.logs / "supervisord.log.1")
    supervisord_says(home, FAILED)
    Deaths(home).look()
    Deaths(home).look()
    assert [line.split()[4] for line in said] == ["openai_00:", "gemini_00:"]


def test_a_process_that_was_started_before_the_first_look_has_its_pid(home: Home, said: list[str]) -> None:
    supervisord_says(home, SPAWNED)
    Deaths(home).look()
    supervisord_says(home, KILLED, SPAWNED.replace("42", "43"))
    Deaths(home).look()
    assert len(said) == 1 and "openai_00 (pid 42): terminated by SIGKILL" in said[0]


def test_half_a_line_waits_for_its_other_half(home: Home, said: list[str]) -> None:
    deaths = Deaths(home)
    deaths.look()
    with (home.logs / "supervisord.log").open("a") as log:
        log.write(FAILED[:40])
    deaths.look()
    assert said == []
    supervisord_says(home, FAILED[40:])
    deaths.look()
    assert len(said) == 1


def test_without_supervisords_log_nothing_is_said(home: Home, said: list[str]) -> None:
    (home.logs / "supervisord.log").unlink()
    Deaths(home).look()
    assert said == []
