"""The latest errors of all processes, from the merged log."""

from collections import deque
from pathlib import Path

from fleet.control.logs.log_files import LogRecord, Position, parse
from fleet.control.logs.merged_log import MERGED_LOG

MOST = 30
_FIRST_BYTES = 1_000_000
_MAX_BYTES = 5_000_000
_BAD = (" | ERROR ", " | CRITICAL ", '"level": "ERROR"', '"level": "CRITICAL"')


class Troubles:
    """Reads the merged log from where it stopped; if the log has grown much since, only its end is read."""

    def __init__(self, logs: Path) -> None:
        self._path = logs / MERGED_LOG
        self._position: Position | None = None
        self._latest: deque[LogRecord] = deque(maxlen=MOST)

    def look(self) -> list[LogRecord]:
        """The latest errors, newest first."""
        try:
            self._read()
        except OSError:  # the log does not exist yet, or was just rotated
            self._position = None if self._position is None else Position()
        return sorted(self._latest, key=lambda record: record.time, reverse=True)

    def _read(self) -> None:
        size = self._path.stat().st_size
        if self._position is None:
            self._position = Position()
            self._position.move_to(self._path, max(size - _FIRST_BYTES, 0))
        elif not self._position.is_in(self._path) or size < self._position.offset:
            self._position.move_to(self._path, 0)
        start = max(self._position.offset, size - _MAX_BYTES)
        with self._path.open("rb") as file:
            file.seek(start)
            new = file.read(size - start)
        whole = new.rpartition(b"\n")[0]
        for line in whole.decode("utf-8", "replace").split("\n"):
            if any(mark in line for mark in _BAD):
                self._latest.append(parse(line, ""))
        self._position.move_to(self._path, start + len(whole) + bool(whole))
