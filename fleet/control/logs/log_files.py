"""Reads the log files of the processes as one log: records in order of time, from saved positions, across
rotations."""

import hashlib
import heapq
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Self

from fleet.process.logging import CONTEXT_KEYS, CONTINUATION

#: The files of the merging program and of others have other names.
_LOG_FILE = re.compile(r"(?P<process>[\w-]+_\d\d)(?:\.\d{4}-\d\d-\d\d_[\d_-]+)?\.log")
_FINGERPRINT_BYTES = 256
_NOT_YET = datetime.max
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record. ``time`` is local, ``text`` is the record as in the file, with its continuation lines."""

    time: datetime
    level: str
    process: str
    context: dict[str, str]
    message: str
    text: str
    end: int = 0

    def to_json(self) -> dict[str, Any]:
        """The JSON of ``fleet logs --json``."""
        head = {"time": self.time.isoformat(), "level": self.level, "process": self.process}
        return head | self.context | {"message": self.message}


def parse(text: str, process: str, end: int = 0) -> LogRecord:
    """A record from its lines; text in another form becomes a record without a time. If ``process`` is empty, the
    record itself must name its process."""
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


@dataclass(frozen=True, slots=True)
class LogFile:
    """A log file at the time when it was examined. ``modified`` is in nanoseconds, ``head`` is the beginning of
    its content."""

    path: Path
    inode: int
    size: int
    modified: int
    head: bytes

    @classmethod
    def look_at(cls, path: Path) -> Self | None:
        """The file at that path now; None if there is none."""
        try:
            with path.open("rb") as file:
                found = os.fstat(file.fileno())
                head = file.read(_FINGERPRINT_BYTES)
        except FileNotFoundError:
            return None
        return cls(path, found.st_ino, found.st_size, found.st_mtime_ns, head)

    def begins_as(self, other: Self) -> bool:
        """Whether this is the same file as that earlier one; the inode alone may belong to another file by now."""
        return self.inode == other.inode and self.head.startswith(other.head)


@dataclass
class Position:
    """How far a log has been read: the file, by inode and by a fingerprint of its beginning, and the offset.
    ``modified`` is the file's last modification time, as far as it was seen."""

    inode: int = 0
    fingerprint: str = ""
    fingerprinted: int = 0
    offset: int = 0
    modified: int = 0

    @classmethod
    def within(cls, file: LogFile, offset: int) -> Self:
        """The position at that offset in that file."""
        return cls(file.inode, _fingerprint(file.head), len(file.head), offset, file.modified)

    def is_within(self, file: LogFile | None) -> bool:
        """Whether the position is in this file."""
        return (
            file is not None
            and file.inode == self.inode
            and _fingerprint(file.head[: self.fingerprinted]) == self.fingerprint
        )

    def is_in(self, path: Path) -> bool:
        """Whether the position is in the file that is now at that path."""
        return self.is_within(LogFile.look_at(path))

    def move_to(self, path: Path, offset: int) -> None:
        """Move to that offset in the file at that path.

        Raises:
            FileNotFoundError: there is none.
        """
        file = LogFile.look_at(path)
        if file is None:
            raise FileNotFoundError(path)
        self.__dict__.update(Position.within(file, offset).__dict__)


def _fingerprint(head: bytes) -> str:
    return hashlib.sha256(head).hexdigest()[:16]


def processes_in(logs: Path) -> list[str]:
    """The processes that have written logs."""
    found = (_LOG_FILE.fullmatch(path.name) for path in logs.glob("*.log"))
    return sorted({match["process"] for match in found if match})


def files_of(logs: Path, process: str) -> list[LogFile]:
    """A process's log files, oldest first, as they were at one moment."""
    path = logs / f"{process}.log"
    while True:
        before = LogFile.look_at(path)
        rotated = [
            found for old_path in _rotated(logs, process) if (found := LogFile.look_at(old_path)) is not None
        ]
        current = LogFile.look_at(path)
        # A rotation in between would hide the file that was current before.
        if (before and before.inode) == (current and current.inode):
            # Their names contain local time, which goes back by an hour once a year.
            rotated.sort(key=lambda file: (file.modified, file.path.name))
            return rotated + ([current] if current else [])


def _rotated(logs: Path, process: str) -> Iterator[Path]:
    for path in logs.glob(f"{process}.*.log"):
        if (match := _LOG_FILE.fullmatch(path.name)) and match["process"] == process:
            yield path


@dataclass(frozen=True, slots=True)
class Loss:
    """Files of a process were deleted before they were read: what it wrote ``after`` the last record that was read
    and ``before`` the next one is lost, as far as these have times. ``files`` and ``bytes`` count the lost files
    that were seen earlier; there may be more."""

    process: str
    after: datetime | None
    before: datetime | None
    files: int
    bytes: int


@dataclass
class Reader:
    """Reads a process's log from a position on. ``last`` is the time of the last record that was read, ``losses``
    lists what could not be read any more.

    The first existing file of a process is taken as its first file: it is not known whether earlier ones were
    deleted.
    """

    logs: Path
    process: str
    position: Position = field(default_factory=Position)
    last: datetime | None = None
    losses: list[Loss] = field(default_factory=list)
    _seen: dict[int, LogFile] = field(default_factory=dict)
    _gone: list[int] | None = None

    def read(self, until: datetime = _NOT_YET) -> Iterator[LogRecord]:
        """The new records up to that time; the position advances with each record that is consumed."""
        while (here := self._here()) is not None:
            file, following = here
            try:
                stream = file.path.open("rb")
            except FileNotFoundError:
                continue  # rotated since it was listed
            with stream:
                if os.fstat(stream.fileno()).st_ino != file.inode:
                    continue
                offset = self.position.offset if self.position.is_within(file) else 0
                for record in _records(stream, self.process, offset, whole=following is not None):
                    if record.time > until:
                        return
                    self._take(record, file)
                    yield record
            if following is None:
                return  # if the file was rotated in the meantime, the next call reads the rest
            self.position = Position.within(following, 0)

    def go_back(self, position: Position, last: datetime | None) -> None:
        """Read again from that position on; what is known of files that were seen is kept."""
        self.position, self.last, self._gone = position, last, None
        self.losses.clear()

    def _here(self) -> tuple[LogFile, LogFile | None] | None:
        """The file to continue in, and the one after it; None if there is none."""
        files = files_of(self.logs, self.process)
        number = next((number for number, file in enumerate(files) if self.position.is_within(file)), None)
        if number is None:
            number = self._first_unread(files)
        else:
            self.position = Position.within(files[number], self.position.offset)
        unread = files[number:]
        if not unread:
            return None
        self._seen |= {file.inode: file for file in unread}
        return unread[0], unread[1] if len(unread) > 1 else None

    def _first_unread(self, files: list[LogFile]) -> int:
        """The index of the file to begin with when the one that was read is gone: older files have been read."""
        if self.position.inode == 0:
            return 0
        if self._gone is None:
            unread = [seen for seen in self._seen.values() if seen.modified >= self.position.modified]
            gone = [seen for seen in unread if not any(file.begins_as(seen) for file in files)]
            read = self.position.offset
            sizes = [file.size - (read if self.position.is_within(file) else 0) for file in gone]
            self._gone = [size for size in sizes if size > 0]
        return sum(file.modified < self.position.modified for file in files)

    def _take(self, record: LogRecord, file: LogFile) -> None:
        timed = record.time if record.time != datetime.min else None
        if self._gone is not None:
            self.losses.append(Loss(self.process, self.last, timed, len(self._gone), sum(self._gone)))
            self._gone = None
        if not self.position.is_within(file):
            self.position = Position.within(file, 0)
        self.position.offset = record.end
        self.last = timed or self.last


def _records(file: BinaryIO, process: str, offset: int, *, whole: bool) -> Iterator[LogRecord]:
    """The complete records from that offset on. ``whole``: nothing will be appended to the file."""
    file.seek(offset)
    lines: list[str] = []
    end = offset
    for raw in file:
        if not (raw.endswith(b"\n") or whole):
            break  # the line is still being written
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
    """Which records are shown. ``least`` is the lowest level, ``since`` is local time. Of a ``provider`` are the
    records of its processes and calls, and those of other processes that name one of its ``queues`` or processes:
    what its budget and its breaker said, and which of its processes died."""

    workflow: str | None = None
    provider: str | None = None
    process: str | None = None
    least: str = "DEBUG"
    since: datetime | None = None
    queues: tuple[str, ...] = ()

    @cached_property
    def _named(self) -> re.Pattern[str]:
        names = "|".join([*map(re.escape, self.queues), rf"{re.escape(self.provider or '')}_\d\d"])
        return re.compile(rf"(?<![\w.-])(?:{names})(?![\w-])")

    def takes(self, record: LogRecord) -> bool:
        """Whether a record is shown."""
        if self.since is not None and record.time < self.since:
            return False
        if record.level in LEVELS and LEVELS.index(record.level) < LEVELS.index(self.least):
            return False
        if self.workflow is not None and self.workflow not in record.context.get("workflow_id", ""):
            return False
        if self.provider is not None and not self._is_of_provider(record):
            return False
        return self.process is None or record.process == self.process

    def _is_of_provider(self, record: LogRecord) -> bool:
        own = (record.context.get("provider"), record.process.rpartition("_")[0])
        return self.provider in own or self._named.search(record.message) is not None


def merged(readers: list[Reader], until: datetime = _NOT_YET) -> Iterator[LogRecord]:
    """All new records of these processes, in order of time."""
    return heapq.merge(*(_in_order(reader.read(until)) for reader in readers), key=lambda record: record.time)


def _in_order(records: Iterator[LogRecord]) -> Iterator[LogRecord]:
    """Give a record without a time the time of the one before it."""
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
