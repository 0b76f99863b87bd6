"""``logs/worker_production.log``: the logs of all processes of this machine in one file, each record once.

What was merged is committed by one small file, ``<state>/merged.json``: how far each log was read, and how long
the merged file was then. A merger that was killed cuts off what it had written since and reads that again.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from loguru import logger

from fleet.control.logs import Position, Reader, merged, processes_in
from fleet.errors import OperationError

MERGED_LOG = "worker_production.log"
_COMMIT = "merged.json"
#: Records are held back for so long, so that those of all processes come in order.
HELD_BACK = timedelta(seconds=1)


@dataclass
class Merger:
    """Merges the logs of a folder. ``rotation_bytes`` and ``backups`` are those of its own file."""

    logs: Path
    state: Path
    rotation_bytes: int
    backups: int
    on_lost: Callable[[str], None] = lambda process: None
    _readers: dict[str, Reader] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._restore()

    @property
    def path(self) -> Path:
        """The merged file."""
        return self.logs / MERGED_LOG

    def merge(self, until: datetime | None = None) -> int:
        """Append what is new, of which the latest second is left for the next time; how many records it was.

        Raises:
            OperationError: the merged file cannot be written.
        """
        horizon = until or datetime.now() - HELD_BACK
        for process in processes_in(self.logs):
            self._readers.setdefault(process, Reader(self.logs, process))
        try:
            return self._append(horizon)
        except OSError as error:
            raise OperationError(
                f"{self.path} cannot be written ({error.strerror}). Remedy: make room, or see to its rights"
            ) from None

    def _append(self, horizon: datetime) -> int:
        count, written = 0, 0
        with self.path.open("ab") as file:
            for record in merged(list(self._readers.values()), horizon):
                line = record.text.encode("utf-8") + b"\n"
                written += len(line)
                count += 1
                file.write(line)
        self._tell_losses()
        if count:
            self._commit()
        if self.path.stat().st_size > self.rotation_bytes:
            self._rotate()
        return count

    def _tell_losses(self) -> None:
        for reader in self._readers.values():
            if reader.lost:
                reader.lost = False
                self.on_lost(reader.process)
                logger.error(
                    "📭 LOG LINES LOST: files of {} were rotated away before they were merged; what is left is",
                    reader.process,
                )

    def _commit(self) -> None:
        found = self.path.stat()
        positions = {process: asdict(reader.position) for process, reader in self._readers.items()}
        committed = {"inode": found.st_ino, "size": found.st_size, "positions": positions}
        fresh = self.state / f".{_COMMIT}.{os.getpid()}"
        fresh.write_text(json.dumps(committed), "utf-8")
        fresh.replace(self.state / _COMMIT)

    def _rotate(self) -> None:
        for number in range(self.backups, 0, -1):
            older = self.path if number == 1 else self.logs / f"{MERGED_LOG}.{number - 1}"
            if older.exists():
                older.replace(self.logs / f"{MERGED_LOG}.{number}")

    def _restore(self) -> None:
        """Go on from the last commit."""
        try:
            committed = json.loads((self.state / _COMMIT).read_text("utf-8"))
            positions = {name: Position(**one) for name, one in committed["positions"].items()}
            inode, size = int(committed["inode"]), int(committed["size"])
        except FileNotFoundError:
            return
        except (ValueError, TypeError, KeyError):
            logger.error("{} is damaged: all logs are merged anew", self.state / _COMMIT)
            return
        self._readers = {name: Reader(self.logs, name, position) for name, position in positions.items()}
        for path in (self.path, *(self.logs / f"{MERGED_LOG}.{number}" for number in range(1, self.backups + 1))):
            if path.exists() and path.stat().st_ino == inode:
                os.truncate(path, min(size, path.stat().st_size))
                return
            if path == self.path and path.exists():
                os.truncate(path, 0)  # begun after the last commit
