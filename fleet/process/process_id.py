"""Identifies a process exactly: its pid alone may belong to another process by the time that it is looked up."""

import ctypes
import os
import signal
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def start_ticks(pid: int) -> int | None:
    """A process's start time in clock ticks since boot; None if the process is gone or a zombie. Source: proc(5),
    stat."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def end_with_parent() -> None:
    """Have the kernel send SIGTERM to this process when its parent dies for any reason. Source: prctl(2)."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@cache
def boot_id() -> str:
    """The id of this machine's current boot. Source: random(4)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()


@dataclass(frozen=True)
class Owner:
    """A process of this machine, distinguished from every other process that had or will have its pid."""

    pid: int
    started: int
    boot: str

    @classmethod
    def current(cls) -> "Owner":
        """This process."""
        return cls(os.getpid(), start_ticks(os.getpid()) or 0, boot_id())

    @property
    def alive(self) -> bool:
        """Whether exactly this process still runs."""
        return self.boot == boot_id() and start_ticks(self.pid) == self.started
