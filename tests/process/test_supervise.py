"""``fleet supervise`` outlives the processes of its supervisord, whatever becomes of that."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet.cli import supervise
from fleet.cli.foreground import Stop
from fleet.cli.supervise import keep, processes_of
from fleet.control.supervision.supervisord_home import Home
from fleet.errors import OperationError
from tests.waiting import wait_for

#: A supervisord with one worker, which takes a second to drain and then says so.
WITH_A_WORKER = """
import os, subprocess, sys, time
worker = '''
import pathlib, signal, sys, time
from fleet.process.process_id import end_with_parent
folder = pathlib.Path(sys.argv[1])
def drain(number, frame):
    time.sleep(1)
    (folder / "drained").touch()
    sys.exit()
signal.signal(signal.SIGTERM, drain)
end_with_parent()
(folder / "works").touch()
time.sleep(60)
'''
url = f"unix://{sys.argv[1]}/state/supervisor.sock"
subprocess.Popen([sys.executable, "-c", worker, sys.argv[1]], env=os.environ | {"SUPERVISOR_SERVER_URL": url})
(open(sys.argv[1] + "/pid", "w")).write(str(os.getpid()))
time.sleep(60)
"""
SILENT = "import time; time.sleep(60)"


@contextmanager
def kept(home: Home, program: str, stop: Stop) -> Iterator[Callable[[], None]]:
    """It runs under ``keep``; what is given waits for the end of that."""
    with ThreadPoolExecutor() as pool:
        running = pool.submit(
            keep, home, [sys.executable, "-c", program, str(home.folder)], stop, lambda text: None
        )
        try:
            yield lambda: running.result(60)
        finally:
            stop.set()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, tmp_path, tmp_path / "logs")


def test_when_supervisord_is_killed_it_stays_until_the_workers_have_drained(home: Home) -> None:
    with kept(home, WITH_A_WORKER, Stop()) as end:
        wait_for("the worker works", (home.folder / "works").exists)
        assert len(processes_of(home)) == 1
        os.kill(int((home.folder / "pid").read_text("utf-8")), signal.SIGKILL)
        with pytest.raises(OperationError, match=r"ended by itself \(status -9\).*Remedy: "):
            end()
        assert (home.folder / "drained").exists() and processes_of(home) == []


def test_a_stop_before_supervisord_listens_ends_it_all_the_same(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "_OPEN_SECONDS", 1.0)
    began, stop = time.monotonic(), Stop()
    stop.set()
    with kept(home, SILENT, stop) as end:
        end()
    assert 1.0 < time.monotonic() - began < 30
