"""Processes that outlive the command that started them, and are ended by their exact identity."""

import os
import signal
import subprocess
import time
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


def spawn(name: str, command: list[str], log: Path, environment: dict[str, str] | None = None) -> ProcessRecord:
    """Start a process in a session of its own; its output is appended to ``log``."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=environment,
        )
    _children.append(process)
    return ProcessRecord(name, process.pid, start_ticks(process.pid) or 0)


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
