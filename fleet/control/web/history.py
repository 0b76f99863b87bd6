"""The history of the totals: per minute over the last hour, and since midnight. No I/O except for one file.

The file, ``<state>/trail.json``, lets a restarted control process continue.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from loguru import logger

from fleet.process.atomic_file import write_atomically

STEP_SECONDS = 60
STEPS = 60
#: A shorter history is shown with so many steps, so that its first minute does not fill a chart.
MIN_STEPS = 10
_FILE = "trail.json"

Totals = Mapping[str, float]


@dataclass
class Minute:
    """The totals at the end of a minute, and the largest backlog of each queue during it."""

    totals: dict[str, float] = field(default_factory=dict)
    waiting: dict[str, float] = field(default_factory=dict)


@dataclass
class History:
    """``minutes`` by their number since 1970, and the totals ``before`` them; ``day`` is a local date and
    ``morning`` has the totals at its beginning."""

    minutes: dict[int, Minute] = field(default_factory=dict)
    before: dict[str, float] = field(default_factory=dict)
    day: str = ""
    morning: dict[str, float] = field(default_factory=dict)

    def note(self, now: float, totals: Totals, waiting: Totals) -> bool:
        """Record the totals at ``now`` (unix seconds); returns whether a new minute has begun."""
        minute, today = int(now // STEP_SECONDS), datetime.fromtimestamp(now).date().isoformat()
        if not self.minutes:
            self.before = dict(totals)
        if today != self.day:
            # After an absence at midnight, the last totals known before it are used.
            self.day, self.morning = today, dict(self.latest)
        fresh = minute not in self.minutes
        entry = self.minutes.setdefault(minute, Minute())
        entry.totals = dict(totals)
        for name, count in waiting.items():
            entry.waiting[name] = max(entry.waiting.get(name, 0.0), count)
        for old in sorted(number for number in self.minutes if number <= minute - STEPS):
            self.before = self.minutes.pop(old).totals
        return fresh

    def today(self, name: str) -> float:
        """The increase since midnight."""
        return max(self.latest.get(name, 0.0) - self.morning.get(name, 0.0), 0.0)

    def hour(self, name: str) -> float:
        """The increase over the last hour."""
        return max(self.latest.get(name, 0.0) - self.before.get(name, 0.0), 0.0)

    def series(self, name: str) -> list[float | None]:
        """The increase in each minute of the last hour, or since the first observation if that is shorter, oldest
        first; None for a minute without an observation. :data:`MIN_STEPS` to :data:`STEPS` values."""
        return [self._gained(name, minute) for minute in self._hour()]

    def waited(self, name: str) -> list[float | None]:
        """The largest backlog in each minute, of the same minutes; None for one without an observation."""
        known = (self.minutes.get(minute) for minute in self._hour())
        return [None if entry is None else entry.waiting.get(name) for entry in known]

    @property
    def until(self) -> float:
        """The end of the last minute (unix seconds)."""
        return (max(self.minutes, default=0) + 1) * float(STEP_SECONDS)

    @property
    def midnight(self) -> float:
        """The beginning of today (unix seconds)."""
        return datetime.fromisoformat(self.day).timestamp() if self.day else 0.0

    @property
    def latest(self) -> dict[str, float]:
        """The last known totals."""
        return self.minutes[max(self.minutes)].totals if self.minutes else self.before

    def _hour(self) -> range:
        last, first = max(self.minutes, default=0), min(self.minutes, default=0)
        return range(max(last - STEPS, min(first - 1, last - MIN_STEPS)) + 1, last + 1)

    def _gained(self, name: str, minute: int) -> float | None:
        now, last = self.minutes.get(minute), self.minutes.get(minute - 1)
        if now is None or (last is None and minute != min(self.minutes)):
            return None
        before = self.before if last is None else last.totals
        return round(max(now.totals.get(name, 0.0) - before.get(name, 0.0), 0.0), 6)

    @classmethod
    def load(cls, state: Path) -> "History":
        """The saved history; empty if there is no readable one."""
        try:
            found: dict[str, Any] = json.loads((state / _FILE).read_text("utf-8"))
            minutes = {int(number): Minute(**fields) for number, fields in found["minutes"].items()}
            return cls(minutes, dict(found["before"]), str(found["day"]), dict(found["morning"]))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, TypeError, KeyError) as error:
            logger.warning("{} cannot be read ({}): the last hour is forgotten", state / _FILE, error)
            return cls()

    def save(self, state: Path) -> None:
        """Write the history to its file."""
        try:
            write_atomically(state / _FILE, json.dumps(asdict(self)))
        except OSError as error:
            logger.warning("{} cannot be written: {}", state / _FILE, error.strerror)
