"""What was counted when: minute by minute over the last hour, and since midnight. Pure but for its one file.

The file, ``<state>/trail.json``, lets a control process that is started anew go on.
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
_FILE = "trail.json"

Totals = Mapping[str, float]


@dataclass
class Minute:
    """The totals at the end of a minute, and the most that waited in each queue during it."""

    totals: dict[str, float] = field(default_factory=dict)
    waiting: dict[str, float] = field(default_factory=dict)


@dataclass
class History:
    """``minutes`` by their number since 1970, and what had been counted ``before`` them; ``day`` is a local date
    and ``morning`` what had been counted when it began."""

    minutes: dict[int, Minute] = field(default_factory=dict)
    before: dict[str, float] = field(default_factory=dict)
    day: str = ""
    morning: dict[str, float] = field(default_factory=dict)

    def note(self, now: float, totals: Totals, waiting: Totals) -> bool:
        """What has been counted by ``now`` (unix seconds); whether a new minute has begun."""
        minute, today = int(now // STEP_SECONDS), datetime.fromtimestamp(now).date().isoformat()
        if not self.minutes:
            self.before = dict(totals)
        if today != self.day:
            # Who was away at midnight takes what was known last before it.
            self.day, self.morning = today, dict(self.latest)
        fresh = minute not in self.minutes
        one = self.minutes.setdefault(minute, Minute())
        one.totals = dict(totals)
        for name, count in waiting.items():
            one.waiting[name] = max(one.waiting.get(name, 0.0), count)
        for old in sorted(number for number in self.minutes if number <= minute - STEPS):
            self.before = self.minutes.pop(old).totals
        return fresh

    def today(self, name: str) -> float:
        """How much it has become since midnight."""
        return max(self.latest.get(name, 0.0) - self.morning.get(name, 0.0), 0.0)

    def hour(self, name: str) -> float:
        """How much it has become over the last hour."""
        return max(self.latest.get(name, 0.0) - self.before.get(name, 0.0), 0.0)

    def series(self, name: str) -> list[float | None]:
        """How much it became in each minute of the last hour, the oldest first; None where nobody looked."""
        return [self._gained(name, minute) for minute in self._hour()]

    def waited(self, name: str) -> list[float | None]:
        """The most that waited in each minute of the last hour."""
        known = (self.minutes.get(minute) for minute in self._hour())
        return [None if one is None else one.waiting.get(name) for one in known]

    @property
    def until(self) -> float:
        """The end of the last minute (unix seconds)."""
        return (max(self.minutes, default=0) + 1) * float(STEP_SECONDS)

    @property
    def midnight(self) -> float:
        """When today began (unix seconds)."""
        return datetime.fromisoformat(self.day).timestamp() if self.day else 0.0

    @property
    def latest(self) -> dict[str, float]:
        """All totals as they were known last."""
        return self.minutes[max(self.minutes)].totals if self.minutes else self.before

    def _hour(self) -> range:
        last = max(self.minutes, default=0)
        return range(last - STEPS + 1, last + 1)

    def _gained(self, name: str, minute: int) -> float | None:
        now, last = self.minutes.get(minute), self.minutes.get(minute - 1)
        if now is None or (last is None and minute != min(self.minutes)):
            return None
        before = self.before if last is None else last.totals
        return round(max(now.totals.get(name, 0.0) - before.get(name, 0.0), 0.0), 6)

    @classmethod
    def load(cls, state: Path) -> "History":
        """As it was saved; empty where there is none that can be read."""
        try:
            found: dict[str, Any] = json.loads((state / _FILE).read_text("utf-8"))
            minutes = {int(number): Minute(**one) for number, one in found["minutes"].items()}
            return cls(minutes, dict(found["before"]), str(found["day"]), dict(found["morning"]))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, TypeError, KeyError) as error:
            logger.warning("{} cannot be read ({}): the last hour is forgotten", state / _FILE, error)
            return cls()

    def save(self, state: Path) -> None:
        """Write it down."""
        try:
            write_atomically(state / _FILE, json.dumps(asdict(self)))
        except OSError as error:
            logger.warning("{} cannot be written: {}", state / _FILE, error.strerror)
