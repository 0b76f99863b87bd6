"""Processes that outlive the command that started them, and are ended by their exact identity."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet.process.process_id import start_ticks

_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.1
# Kept so that children of this process are reaped when they end, and not garbage-collected while they run.
_children: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class ProcessRecord:
    """A process that was started here. ``started`` is its start in clock ticks since boot, so that another process
    that later gets the same pid is never confused with it."""

    name: str
    pid: int
    started: int

    @property
    def alive(self) -> bool:
        """Whether exactly this process still runs."""
        return start_ticks(self.pid) == self.started


def spawn(
    name: str,
    command: list[str],
    log: Path,
    environment: dict[str, str] | None = None,
    *,
    known: list[ProcessRecord],
) -> None:
    """Start a process in a session of its own; its output is appended to ``log``. Its record is appended to
    ``known`` before any signal handler runs, so that an interrupted command can end everything it has started."""
    with log.open("ab") as output, _signals_delayed():
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=environment,
        )
        _children.append(process)
        known.append(ProcessRecord(name, process.pid, start_ticks(process.pid) or 0))


@contextmanager
def _signals_delayed() -> Iterator[None]:
    """Have the signals that interrupt a command handled after the block. Only the main thread handles signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda number, frame: came.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for each in came:
        signal.raise_signal(each)


def end_processes(records: list[ProcessRecord]) -> None:
    """End exactly these processes: SIGTERM, then SIGKILL for those that do not end."""
    for number, patience in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, _STOP_SECONDS)):
        for record in records:
            if record.alive:
                os.kill(record.pid, number)
        deadline = time.monotonic() + patience
        while any(record.alive for record in records) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
    _children[:] = [child for child in _children if child.poll() is None]
