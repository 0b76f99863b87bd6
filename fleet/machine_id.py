"""Which machine this is, told from every other: a cloned one has the host name of its original, and a state folder
that was copied has its files.
"""

import fcntl
import hashlib
import json
import os
import socket
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

_FILE, _LOCK = "machine.json", "machine.lock"


@dataclass(frozen=True)
class Marks:
    """What tells one machine from another. ``system`` is the installation's id, which a clone may share;
    ``networks`` are the addresses of its network cards, which it does not."""

    system: str
    networks: tuple[str, ...]

    @classmethod
    def here(cls) -> "Marks":
        """Those of this machine. Sources: machine-id(5), sysfs."""
        cards = [path.parent for path in Path("/sys/class/net").glob("*/address") if path.parent.name != "lo"]
        real = [card for card in cards if (card / "device").exists()] or cards
        networks = {_text(card / "address") for card in real} - {"", "00:00:00:00:00:00"}
        return cls(_text(Path("/etc/machine-id")), tuple(sorted(networks)))

    def may_be(self, other: "Marks") -> bool:
        """Whether both may be of one machine, which may have got another card meanwhile."""
        known = self.networks and other.networks
        return self.system == other.system and (not known or bool({*self.networks} & {*other.networks}))


def machine_id(state_dir: Path, marks: Callable[[], Marks] = Marks.here) -> str:
    """Twelve hexadecimal digits, made at this machine's first start and kept in its state folder; made anew where
    the folder was copied from another machine. Where the folder cannot be written they follow from the marks."""
    here = marks()
    try:
        if (known := _known(state_dir / _FILE, here)) is not None:
            return known
        state_dir.mkdir(parents=True, exist_ok=True)
        with (state_dir / _LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the processes of a machine start together
            return _known(state_dir / _FILE, here) or _made(state_dir / _FILE, here)
    except OSError:
        return hashlib.sha256(repr(here).encode()).hexdigest()[:12]


def _known(path: Path, here: Marks) -> str | None:
    try:
        found = json.loads(path.read_text("utf-8"))
        marks = Marks(str(found["system"]), tuple(map(str, found["networks"])))
        return str(found["id"]) if marks.may_be(here) else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _made(path: Path, here: Marks) -> str:
    made = uuid.uuid4().hex[:12]
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"id": made} | asdict(here)) + "\n", "utf-8")
    fresh.replace(path)
    return made


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except OSError:
        return ""


def process_on(machine: str, name: str) -> str:
    """The name of a supervised process of this machine among those of all machines: ``NAME@HOST+MACHINE``."""
    return f"{name}@{socket.gethostname()}+{machine}"


def identity_on(machine: str, name: str) -> str:
    """What the Temporal server calls this process: ``NAME@HOST+MACHINE:PID``."""
    return f"{process_on(machine, name)}:{os.getpid()}"


def pid_here(identity: str, own_identity: str) -> int | None:
    """The pid of the process of that identity if it is on the machine of ``own_identity``; None if it is on
    another one, or nobody of the fleet. Processes of 0.1.0 do not tell their machine, only its host name."""
    host, pid = _place(identity)
    own_host, _ = _place(own_identity)
    here = {own_host, own_host.partition("+")[0]}
    return int(pid) if pid.isdigit() and host in here else None


def _place(identity: str) -> tuple[str, str]:
    host, _, pid = identity.rpartition("@")[2].partition(":")
    return host, pid
