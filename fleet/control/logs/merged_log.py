"""``logs/worker_production.log``: the logs of all processes of this machine in one file, each record once.

A merge is committed by one small file, ``<state>/merged.json``: how far each log was read, and the length of the
merged file at that time. A merger that was killed truncates what it wrote since then, and reads that again.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from loguru import logger

from fleet.control.logs.log_files import Loss, Position, Reader, files_of, merged, processes_in
from fleet.errors import OperationError
from fleet.process.atomic_file import write_atomically

MERGED_LOG = "worker_production.log"
_COMMIT = "merged.json"
#: Records are held back for this time, so that those of all processes are merged in order.
HELD_BACK = timedelta(seconds=1)


@dataclass(frozen=True)
class _Committed:
    """The length of the merged file, and how far each log was read."""

    inode: int
    size: int
    positions: dict[str, Position]
    last: dict[str, datetime]


@dataclass
class Merger:
    """Merges the logs of a folder. ``rotation_bytes`` and ``backups`` apply to its own file and to those of the
    processes; ``on_lost`` is called with the process of each loss, once.

    A process that already has the maximum number of rotated files when it is first seen may have had earlier ones.
    That cannot be known, so it is logged as a warning and not counted as a loss.
    """

    logs: Path
    state: Path
    rotation_bytes: int
    backups: int
    on_lost: Callable[[str], None] = lambda process: None
    _readers: dict[str, Reader] = field(default_factory=dict)
    _sound: bool = False

    @property
    def path(self) -> Path:
        """The merged file."""
        return self.logs / MERGED_LOG

    def merge(self, until: datetime | None = None) -> int:
        """Append the new records, except for those of the latest second; returns their number.

        Raises:
            OperationError: the merged file cannot be written. The next call continues from the last commit.
        """
        horizon = until or datetime.now() - HELD_BACK
        try:
            if not self._sound:
                self._restore()
            self._sound = False
            count = self._append(horizon)
            self._sound = True
        except OSError as error:
            raise OperationError(
                f"the logs cannot be merged into {self.path} ({error.strerror}: {error.filename or self.path}). "
                "Remedy: make room, or see to its rights"
            ) from None
        self._tell_losses()
        return count

    def _append(self, horizon: datetime) -> int:
        count = 0
        for process in processes_in(self.logs):
            if process not in self._readers:
                self._readers[process] = self._first_seen(process)
        with self.path.open("ab") as file:
            for record in merged(list(self._readers.values()), horizon):
                file.write(record.text.encode("utf-8") + b"\n")
                count += 1
        if count:
            self._commit()
        if self.path.stat().st_size > self.rotation_bytes:
            self._rotate()
        return count

    def _first_seen(self, process: str) -> Reader:
        aside = len(files_of(self.logs, process)) - 1
        if aside >= self.backups:
            logger.warning(
                "{} is merged for the first time, from the oldest of its {} files on; whether there were older "
                "ones is not known",
                process,
                aside + 1,
            )
        return Reader(self.logs, process)

    def _tell_losses(self) -> None:
        """Report the losses; to be called after the commit of what follows them, otherwise they would be found and
        reported again."""
        for reader in self._readers.values():
            for loss in reader.losses:
                self.on_lost(loss.process)
                logger.error("📭 LOG LINES LOST: {}", _told(loss))
            reader.losses.clear()

    def _commit(self) -> None:
        found = self.path.stat()
        committed = {
            "inode": found.st_ino,
            "size": found.st_size,
            "positions": {process: asdict(reader.position) for process, reader in self._readers.items()},
            "last": {process: reader.last.isoformat() for process, reader in self._readers.items() if reader.last},
        }
        write_atomically(self.state / _COMMIT, json.dumps(committed))

    def _rotate(self) -> None:
        for number in range(self.backups, 0, -1):
            older = self.path if number == 1 else self.logs / f"{MERGED_LOG}.{number - 1}"
            if older.exists():
                older.replace(self.logs / f"{MERGED_LOG}.{number}")

    def _restore(self) -> None:
        """Continue from the last commit: truncate what was written since, and read it again.

        The readers are kept, since they know which files they have seen.
        """
        committed = self._committed()
        if committed is None:
            self._go_back({}, {})
            self.path.touch()
            self._commit()  # so that the first lines can be truncated as well
            return
        self._go_back(committed.positions, committed.last)
        for path in (self.path, *(self.logs / f"{MERGED_LOG}.{number}" for number in range(1, self.backups + 1))):
            if path.exists() and path.stat().st_ino == committed.inode:
                os.truncate(path, min(committed.size, path.stat().st_size))
                return
            if path == self.path and path.exists():
                os.truncate(path, 0)  # created after the last commit

    def _go_back(self, positions: dict[str, Position], last: dict[str, datetime]) -> None:
        for process in positions.keys() | self._readers.keys():
            reader = self._readers.setdefault(process, Reader(self.logs, process))
            reader.go_back(positions.get(process, Position()), last.get(process))

    def _committed(self) -> _Committed | None:
        """The last commit; None if there is none, or it cannot be read."""
        try:
            found = json.loads((self.state / _COMMIT).read_text("utf-8"))
            return _Committed(
                int(found["inode"]),
                int(found["size"]),
                {name: Position(**position) for name, position in found["positions"].items()},
                {name: datetime.fromisoformat(time) for name, time in found.get("last", {}).items()},
            )
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, AttributeError):
            logger.error("{} is damaged: all logs are merged anew", self.state / _COMMIT)
            return None


def _told(loss: Loss) -> str:
    known = (
        f"{loss.files} files with {loss.bytes:,} bytes were still there when they were last looked at"
        if loss.files
        else "how much it was cannot be known"
    )
    return (
        f"files of {loss.process} were gone before they were merged; lost is what it wrote between "
        f"{_time(loss.after)} (the last record that was merged) and {_time(loss.before)} (the first that "
        f"follows); {known}"
    )


def _time(moment: datetime | None) -> str:
    return "an unknown time" if moment is None else moment.isoformat(" ", "milliseconds")
