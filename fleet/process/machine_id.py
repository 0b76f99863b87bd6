"""Identifies this machine among all others. A host name is not enough, since a cloned machine has the host name of
its original; a file in the state folder is not enough either, since the folder may have been copied."""

import fcntl
import json
import os
import socket
import uuid
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from loguru import logger

from fleet.process.atomic_file import write_atomically
from fleet.process.process_id import boot_id

_FILE, _LOCK = "machine.json", "machine.lock"


@dataclass(frozen=True)
class Marks:
    """What distinguishes one machine from another. ``system`` is the installation's id, which a clone may share;
    ``networks`` are the addresses of its network cards, which a clone does not share; ``boot`` is the id of its
    current boot, which all containers of a host share; ``folder`` is the inode of the state folder, which a copy
    does not share, 0 if that is not known."""

    system: str
    networks: tuple[str, ...]
    boot: str = ""
    folder: int = 0

    @classmethod
    def here(cls, state_dir: Path) -> "Marks":
        """The marks of this machine. Sources: machine-id(5), sysfs, random(4), inode(7)."""
        cards = [path.parent for path in Path("/sys/class/net").glob("*/address") if path.parent.name != "lo"]
        real = [card for card in cards if (card / "device").exists()] or cards
        networks = {_text(card / "address") for card in real} - {"", "00:00:00:00:00:00"}
        try:
            folder = state_dir.stat().st_ino
        except OSError:
            folder = 0
        return cls(_text(Path("/etc/machine-id")), tuple(sorted(networks)), boot_id(), folder)

    def may_be(self, other: "Marks") -> bool:
        """Whether both may be marks of one machine, whose network cards may have changed in the meantime."""
        known = self.networks and other.networks
        same_networks = not known or bool({*self.networks} & {*other.networks})
        if self.boot and self.boot == other.boot:
            copied = self.folder and other.folder and self.folder != other.folder
            return same_networks or not copied
        return self.system == other.system and same_networks


@cache
def machine_id(state_dir: Path) -> str:
    """Twelve hexadecimal digits, created at this machine's first start and kept in its state folder; created again
    if the folder was copied from another machine. Empty if the id can be neither read nor created."""
    return kept_id(state_dir, Marks.here(state_dir))


def known_id(state_dir: Path) -> str:
    """The id in the state folder; empty if there is none. Creates nothing; for commands."""
    try:
        found = _kept(state_dir / _FILE)
    except OSError:
        return ""
    return "" if found is None else found[0]


def kept_id(state_dir: Path, here: Marks) -> str:
    """The id of a machine with these marks, from its state folder; see :func:`machine_id`."""
    path = state_dir / _FILE
    try:
        if (found := _kept(path)) is not None and found[1] == here:
            return found[0]
        state_dir.mkdir(parents=True, exist_ok=True)
        with (state_dir / _LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the processes of a machine start together
            found = _kept(path)
            known = found[0] if found is not None and found[1].may_be(here) else uuid.uuid4().hex[:12]
            _keep(path, known, here)
            return known
    except OSError as error:
        logger.warning("the machine's id in {} cannot be read or made: {}", path, error)
        return ""


def _kept(path: Path) -> tuple[str, Marks] | None:
    try:
        found = json.loads(path.read_text("utf-8"))
        return str(found["id"]), Marks(
            str(found["system"]),
            tuple(map(str, found["networks"])),
            str(found["boot"]),
            int(found.get("folder", 0)),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _keep(path: Path, known: str, here: Marks) -> None:
    """Write the id with the current marks, since network cards change."""
    write_atomically(path, json.dumps({"id": known} | asdict(here)) + "\n")


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except OSError:
        return ""


def machine_name(state_dir: Path) -> str:
    """The name of this machine that people see: ``HOST+MACHINE``."""
    return process_on(machine_id(state_dir), "")[1:]


def process_on(machine: str, name: str) -> str:
    """The name of a supervised process of this machine, unique over all machines: ``NAME@HOST+MACHINE``;
    ``NAME@HOST`` if the machine has no id."""
    return f"{name}@{socket.gethostname()}" + (f"+{machine}" if machine else "")


def identity_on(machine: str, name: str) -> str:
    """The identity of this process at the Temporal server: ``NAME@HOST+MACHINE:PID``."""
    return f"{process_on(machine, name)}:{os.getpid()}"


@dataclass(frozen=True)
class Place:
    """The process that an identity names, and its place. ``machine`` is empty for a process of release 0.1.0."""

    process: str
    host: str
    machine: str
    pid: int


def place_of(identity: str) -> Place | None:
    """The parts of an identity; None if it is not an identity of the fleet."""
    process, _, place = identity.rpartition("@")
    host, _, pid = place.partition(":")
    host, _, machine = host.partition("+")
    return Place(process, host, machine, int(pid)) if process and pid.isdigit() else None


def pid_here(identity: str, own_identity: str) -> int | None:
    """The pid of the process with that identity if it is on the machine of ``own_identity``; None if it is on
    another machine or not a process of the fleet. Identities of release 0.1.0 contain no machine id, only a host
    name."""
    place, own = place_of(identity), place_of(own_identity)
    if place is None or own is None or place.host != own.host:
        return None
    return place.pid if place.machine in ("", own.machine) else None


def runs_here(identity: str, own_identity: str) -> bool | None:
    """Whether the process with that identity runs on the machine of ``own_identity``; None as for
    :func:`pid_here`."""
    pid = pid_here(identity, own_identity)
    return None if pid is None else _is_process(pid)


def _is_process(pid: int) -> bool:
    """Whether a process has that pid. A thread may have the id of a process that has ended, and /proc knows it
    too. Source: proc(5), Tgid."""
    try:
        lines = Path("/proc", str(pid), "status").read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    return f"Tgid:\t{pid}" in lines
