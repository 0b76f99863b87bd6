"""The processes' log files, read as one: records in order of time, from saved positions, over rotations."""

import hashlib
import heapq
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from fleet.logger import CONTEXT_KEYS, CONTINUATION

#: Files that the merging program and others write have other names.
_LOG_FILE = re.compile(r"(?P<process>[\w-]+_\d\d)(?:\.\d{4}-\d\d-\d\d_[\d_-]+)?\.log")
_FINGERPRINT_BYTES = 256
_NOT_YET = datetime.max
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record. ``time`` is local, ``text`` as it stands in the file, with its further lines."""

    time: datetime
    level: str
    process: str
    context: dict[str, str]
    message: str
    text: str
    end: int = 0

    def to_json(self) -> dict[str, Any]:
        """As ``fleet logs --json`` shows it."""
        head = {"time": self.time.isoformat(), "level": self.level, "process": self.process}
        return head | self.context | {"message": self.message}


def parse(text: str, process: str, end: int = 0) -> LogRecord:
    """A record from its lines; what has another form is a record without a time of its own. ``process`` is empty
    where the record itself is to say whose it is."""
    head = text.split("\n", 1)[0]
    try:
        if head.startswith("{"):
            return _parse_json(head, text, process, end)
        time, level, name, context, message = head.split(" | ", 4)
        known = dict(word.split("=", 1) for word in context.split(" ")) if context != "-" else {}
        moment = datetime.fromisoformat(time)
        return LogRecord(moment, level.strip(), process or name, known, message, text, end)
    except ValueError:
        return LogRecord(datetime.min, "INFO", process, {}, head, text, end)


def _parse_json(head: str, text: str, process: str, end: int) -> LogRecord:
    found: dict[str, Any] = json.loads(head)
    moment = datetime.fromisoformat(str(found.get("time"))).astimezone().replace(tzinfo=None)
    context = {key: str(found[key]) for key in CONTEXT_KEYS if key in found}
    name = process or str(found.get("process"))
    return LogRecord(moment, str(found.get("level")), name, context, str(found.get("message")), text, end)


@dataclass
class Position:
    """How far a process's log has been read: the file, by inode and by what it begins with, and the offset."""

    inode: int = 0
    fingerprint: str = ""
    fingerprinted: int = 0
    offset: int = 0

    def is_in(self, path: Path) -> bool:
        """Whether this is the file that was read."""
        try:
            return path.stat().st_ino == self.inode and (
                _fingerprint(path, self.fingerprinted) == self.fingerprint
            )
        except OSError:
            return False

    def move_to(self, path: Path, offset: int) -> None:
        """From now on it is so far in that file."""
        self.inode = path.stat().st_ino
        self.fingerprinted = min(path.stat().st_size, _FINGERPRINT_BYTES)
        self.fingerprint = _fingerprint(path, self.fingerprinted)
        self.offset = offset


def _fingerprint(path: Path, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.sha256(file.read(size)).hexdigest()[:16]


def processes_in(logs: Path) -> list[str]:
    """The processes that have written logs."""
    found = (_LOG_FILE.fullmatch(path.name) for path in logs.glob("*.log"))
    return sorted({match["process"] for match in found if match})


def files_of(logs: Path, process: str) -> list[Path]:
    """A process's log files, the oldest first."""
    rotated = [
        path
        for path in logs.glob(f"{process}.*.log")
        if (match := _LOG_FILE.fullmatch(path.name)) and match["process"] == process
    ]
    current = logs / f"{process}.log"
    return sorted(rotated) + ([current] if current.exists() else [])


@dataclass
class Reader:
    """Reads a process's log on from a position. ``lost`` says whether files went before they were read."""

    logs: Path
    process: str
    position: Position = field(default_factory=Position)
    begun: bool = False
    lost: bool = False

    def read(self, until: datetime = _NOT_YET) -> Iterator[LogRecord]:
        """What is new, up to that time; the position moves along with what is taken."""
        for _ in range(3):  # a rotation may come in between
            try:
                yield from self._read(until)
            except FileNotFoundError:
                continue
            return

    def _read(self, until: datetime) -> Iterator[LogRecord]:
        files = files_of(self.logs, self.process)
        start = next((number for number, path in enumerate(files) if self.position.is_in(path)), None)
        if start is None:
            self.lost = self.lost or (self.position.inode != 0 and bool(files))
            start, self.position = 0, Position()
        for path in files[start:]:
            if not self.position.is_in(path):
                self.position.move_to(path, 0)
            for record in _records(path, self.process, self.position.offset):
                if record.time > until:
                    return
                self.position.offset = record.end
                yield record
            if self.position.fingerprinted < _FINGERPRINT_BYTES:
                self.position.move_to(path, self.position.offset)


def _records(path: Path, process: str, offset: int) -> Iterator[LogRecord]:
    """The complete records from there on."""
    with path.open("rb") as file:
        file.seek(offset)
        lines: list[str] = []
        end = offset
        for raw in file:
            if not raw.endswith(b"\n"):
                break  # it is being written
            line = raw.decode("utf-8", "replace").rstrip("\n")
            if lines and not line.startswith(CONTINUATION):
                yield parse("\n".join(lines), process, end)
                lines = []
            lines.append(line)
            end += len(raw)
        if lines:
            yield parse("\n".join(lines), process, end)


@dataclass(frozen=True)
class Wanted:
    """Which records are shown. ``least`` is a level, ``since`` local time."""

    workflow: str | None = None
    provider: str | None = None
    process: str | None = None
    least: str = "DEBUG"
    since: datetime | None = None

    def takes(self, record: LogRecord) -> bool:
        """Whether a record is one of them."""
        if self.since is not None and record.time < self.since:
            return False
        if record.level in LEVELS and LEVELS.index(record.level) < LEVELS.index(self.least):
            return False
        if self.workflow is not None and self.workflow not in record.context.get("workflow_id", ""):
            return False
        if self.provider is not None and self.provider not in (
            record.context.get("provider"),
            record.process.rpartition("_")[0],
        ):
            return False
        return self.process is None or record.process == self.process


def merged(readers: list[Reader], until: datetime = _NOT_YET) -> Iterator[LogRecord]:
    """All new records of these processes, in order of time."""
    return heapq.merge(*(_in_order(reader.read(until)) for reader in readers), key=lambda record: record.time)


def _in_order(records: Iterator[LogRecord]) -> Iterator[LogRecord]:
    """A record without a time of its own belongs to the one before it."""
    last = datetime.min
    for record in records:
        last = max(last, record.time)
        yield (
            record
            if record.time == last
            else LogRecord(
                last, record.level, record.process, record.context, record.message, record.text, record.end
            )
        )
