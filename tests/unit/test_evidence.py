"""A failed test says what its fleet was doing, and a hung one where it stood."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from fleet.config import PROJECT_ROOT
from tests.evidence import gather, last_lines

HUNG = """
import threading, time
import pytest

class Fleet:
    def evidence(self, since):
        yield "openai_00.log, last lines", "it was told to wait"

@pytest.fixture
def fleet():
    return Fleet()

def wait_for_nothing():
    threading.Event().wait()

@pytest.mark.timeout(2)
def test_hangs(fleet):
    wait_for_nothing()
"""


def test_a_hung_test_shows_its_stacks_and_its_fleets_logs(tmp_path: Path) -> None:
    (tmp_path / "test_hung.py").write_text(HUNG, "utf-8")
    options = ["-p", "tests.conftest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-c", "/dev/null"]
    command = [sys.executable, "-m", "pytest", *options, "--reports", str(tmp_path / "reports"), str(tmp_path)]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    _, stacks = done.stdout.split("all stacks before the timeout")
    assert "in wait_for_nothing" in stacks and "in test_hangs" in stacks
    assert "openai_00.log, last lines (test_hangs)" in stacks and "it was told to wait" in stacks
    assert (tmp_path / "reports/durations.tsv").read_text("utf-8").split()[1:3] == [
        "call",
        "test_hung.py::test_hangs",
    ]
    assert list((tmp_path / "reports").glob("stacks-*")) == []


class Broken:
    def evidence(self, since: float) -> Iterator[tuple[str, str]]:
        yield "ledger", "2 calls"
        raise ConnectionError("the server is gone")


def test_what_cannot_be_read_does_not_hide_the_rest() -> None:
    found = list(gather([7, Broken(), Broken()], since=0.0))
    assert [title for title, _ in found] == ["ledger", "evidence", "ledger", "evidence"]
    assert "the server is gone" in found[1][1]


def test_only_logs_of_the_test_are_shown_and_only_their_end(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / f"{name}.log").write_text("".join(f"line {n}\n" for n in range(100)), "utf-8")
    since = (tmp_path / "new.log").stat().st_mtime
    os.utime(tmp_path / "old.log", (since - 10, since - 10))
    ((title, text),) = last_lines(tmp_path, since)
    assert title == "new.log, last lines"
    assert text.splitlines()[0] == "line 85" and text.endswith("line 99")
