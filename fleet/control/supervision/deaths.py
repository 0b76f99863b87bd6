"""Which processes ended by themselves and how, from supervisord's own log: only supervisord learns the signal.

Source: ``Subprocess.finish`` and ``Subprocess.spawn`` of supervisord, which write these lines.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from fleet.control.supervision.supervisord_home import Home
from fleet.process.atomic_file import write_atomically

_LINE = re.compile(
    r"[\d-]+ (?P<time>[\d:]+),\d+ [A-Z]+ "
    r"(?:spawned: '(?P<spawned>[\w-]+)' with pid (?P<pid>\d+)"
    r"|(?P<how>exited|stopped): (?P<process>[\w-]+) \((?P<why>.*)\))"
)
_BY_SIGNAL = "terminated by "
_OUT_OF_MEMORY = "; if nobody sent it, the kernel may have for lack of memory: see journalctl -k"
_MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Place:
    """How far supervisord's log was read: a file, by inode, and the offset in it."""

    inode: int
    offset: int


class Deaths:
    """Logs each death once, also one that happened while this process did not run."""

    def __init__(self, home: Home) -> None:
        self._log = home.logs / "supervisord.log"
        self._file = home.state / "deaths.json"
        self._pids: dict[str, str] = {}

    def look(self) -> None:
        """Log the deaths since the last look. The first look of a state folder begins at the end of the log."""
        try:
            lines, place = self._new_lines()
        except OSError as error:
            logger.debug("supervisord's log cannot be read: {}", error)
            return
        for line in lines:
            self._take(line)
        if place != self._known():
            write_atomically(self._file, json.dumps(vars(place)))

    def _known(self) -> Place | None:
        try:
            found = json.loads(self._file.read_text("utf-8"))
            return Place(int(found["inode"]), int(found["offset"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _new_lines(self) -> tuple[list[str], Place]:
        """The complete lines since the last look, over one rotation, and the place after them."""
        known, now = self._known(), self._log.stat()
        if known is None:
            known = Place(now.st_ino, now.st_size)
        if not self._pids:
            self._learn_pids(known.offset)
        begin, old = known.offset, b""
        if known.inode != now.st_ino or known.offset > now.st_size:
            old, begin = self._rest_of_rotated(known), 0
        new = _read(self._log, begin)
        new = new[: new.rfind(b"\n") + 1]
        text = (old + new).decode("utf-8", "replace")
        return text.splitlines(), Place(now.st_ino, begin + len(new))

    def _learn_pids(self, until: int) -> None:
        """The pids of the processes that were started before the first look."""
        begin = max(until - _MAX_BYTES, 0)
        text = _read(self._log, begin)[: until - begin].decode("utf-8", "replace")
        spawned = filter(None, map(_LINE.match, text.splitlines()))
        self._pids = {match["spawned"]: match["pid"] for match in spawned if match["spawned"]}

    def _rest_of_rotated(self, known: Place) -> bytes:
        rotated = self._log.with_name(f"{self._log.name}.1")
        there = rotated.exists() and rotated.stat().st_ino == known.inode
        return _read(rotated, known.offset) if there else b""

    def _take(self, line: str) -> None:
        match = _LINE.match(line)
        if match is None:
            return
        if match["spawned"]:
            self._pids[match["spawned"]] = match["pid"]
            return
        process, why, signalled = match["process"], match["why"], _BY_SIGNAL in match["why"]
        pid = f" (pid {self._pids[process]})" if process in self._pids else ""
        what = f"{process}{pid}: {why.split(';')[0]} at {match['time']}"
        if match["how"] == "stopped":
            if signalled:
                logger.warning(
                    "💀 PROCESS KILLED WHILE STOPPING: {}; it had stopwaitsecs to finish its calls", what
                )
        elif signalled or "not expected" in why:
            logger.warning("💀 PROCESS DIED: {}{}", what, _OUT_OF_MEMORY if "SIGKILL" in why else "")
        else:
            logger.info("PROCESS ENDED: {}, without having been stopped by supervisord", what)


def _read(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(_MAX_BYTES)
