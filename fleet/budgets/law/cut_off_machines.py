"""Which machines reach a provider, according to their reports. Pure: no I/O, no clock.

Calls that fail before they are sent are the provider's fault only where no machine's calls arrive: if those of one
machine fail while those of another do not, the fault is that machine's own.
"""

from dataclasses import dataclass, field

_LATELY_SECONDS = 60.0
_HALF_LIFE_SECONDS = 10.0
_HARDLY_ANY = 1.0
# By then every machine that has sent a call has reported it.
_OTHERS_TELL_SECONDS = 2.0


@dataclass(slots=True)
class Line:
    """One machine's connection to the provider: how many of its recent calls were ``lost`` before they were sent,
    since when, and when a call last arrived. All as of ``heard_at``, in unix seconds."""

    heard_at: float = 0.0
    lost: float = 0.0
    since: float = 0.0
    arrived_at: float = 0.0
    why: str = ""

    def lost_by(self, now: float) -> float:
        """How many lost calls still count, with the half-life applied."""
        return self.lost * float(0.5 ** (max(now - self.heard_at, 0.0) / _HALF_LIFE_SECONDS))

    def well(self, now: float) -> bool:
        """Whether almost none of its recent calls was lost."""
        return self.lost_by(now) < _HARDLY_ANY


@dataclass(slots=True)
class Machines:
    """``lines`` of all machines that reported within the last minute, by host name and machine."""

    lines: dict[str, Line] = field(default_factory=dict)

    def take(self, machine: str, lost: int, why: str, now: float, *, arrived: bool) -> None:
        """A machine's report: how many calls were ``lost`` before they were sent, and whether others
        ``arrived``."""
        line = self.lines.setdefault(machine, Line())
        left = line.lost_by(now)
        line.lost, line.heard_at = left + lost, max(now, line.heard_at)
        if lost:
            line.since, line.why = now if left < _HARDLY_ANY else line.since, why
        if arrived:
            line.arrived_at = now
        self.lines = {name: known for name, known in self.lines.items() if now - known.heard_at < _LATELY_SECONDS}

    def lost_everywhere(self, now: float) -> float:
        """How many calls were lost recently, if no machine is healthy. Lost calls of a machine of which no call
        arrives count only once the other machines have had time to report that theirs do."""
        lines = [line for line in self.lines.values() if now - line.heard_at < _LATELY_SECONDS]
        if any(line.well(now) for line in lines):
            return 0.0
        told = [
            line for line in lines if line.arrived_at >= line.since or now - line.since >= _OTHERS_TELL_SECONDS
        ]
        return sum(line.lost_by(now) for line in told)

    def why(self) -> str:
        """The failure of the last of the lost calls."""
        return max(self.lines.values(), key=lambda line: (line.lost > 0, line.heard_at), default=Line()).why

    def cut_off(self, now: float) -> list[str]:
        """The machines whose calls are lost while those of another machine are not."""
        lines = {name: line for name, line in self.lines.items() if now - line.heard_at < _LATELY_SECONDS}
        ill = [name for name, line in lines.items() if not line.well(now)]
        return sorted(ill) if len(ill) < len(lines) else []

    def forget(self) -> None:
        """Clear everything: the provider is healthy again, or is declared healthy."""
        self.lines.clear()
