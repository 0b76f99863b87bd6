"""Which machines reach a provider, as their reports tell. Pure: no I/O, no clock.

Calls that fail before they are sent are the provider's trouble only where nobody's arrive: those of one machine
while another's do not fail are that machine's own.
"""

from dataclasses import dataclass, field

_LATELY_SECONDS = 60.0
_HALF_LIFE_SECONDS = 10.0
_HARDLY_ANY = 1.0
# By then every machine that has sent a call has told of it.
_OTHERS_TELL_SECONDS = 2.0


@dataclass(slots=True)
class Line:
    """One machine's way to the provider: how many of its calls of late were ``lost`` before they were sent, since
    when, and when one of them last arrived. All as of ``heard_at``, in unix seconds."""

    heard_at: float = 0.0
    lost: float = 0.0
    since: float = 0.0
    arrived_at: float = 0.0
    why: str = ""

    def lost_by(self, now: float) -> float:
        """How many are not forgotten."""
        return self.lost * float(0.5 ** (max(now - self.heard_at, 0.0) / _HALF_LIFE_SECONDS))

    def well(self, now: float) -> bool:
        """Whether it calls, and hardly any of its calls is lost."""
        return self.lost_by(now) < _HARDLY_ANY


@dataclass(slots=True)
class Machines:
    """``lines`` of all that were heard of in the last minute, by host name and machine."""

    lines: dict[str, Line] = field(default_factory=dict)

    def take(self, machine: str, lost: int, why: str, now: float, *, arrived: bool) -> None:
        """A machine's report: so many calls were lost before they were sent; whether others arrived."""
        line = self.lines.setdefault(machine, Line())
        left = line.lost_by(now)
        line.lost, line.heard_at = left + lost, max(now, line.heard_at)
        if lost:
            line.since, line.why = now if left < _HARDLY_ANY else line.since, why
        if arrived:
            line.arrived_at = now
        self.lines = {name: one for name, one in self.lines.items() if now - one.heard_at < _LATELY_SECONDS}

    def lost_everywhere(self, now: float) -> float:
        """How many calls were lost of late, if no machine is well. Those of a machine of which no call arrives
        count once the others have had time to tell that theirs do."""
        lines = [line for line in self.lines.values() if now - line.heard_at < _LATELY_SECONDS]
        if any(one.well(now) for one in lines):
            return 0.0
        told = [one for one in lines if one.arrived_at >= one.since or now - one.since >= _OTHERS_TELL_SECONDS]
        return sum(one.lost_by(now) for one in told)

    def why(self) -> str:
        """What the last of the lost calls failed with."""
        return max(self.lines.values(), key=lambda one: (one.lost > 0, one.heard_at), default=Line()).why

    def cut_off(self, now: float) -> list[str]:
        """The machines whose calls are lost while those of another one are not."""
        lines = {name: one for name, one in self.lines.items() if now - one.heard_at < _LATELY_SECONDS}
        ill = [name for name, one in lines.items() if not one.well(now)]
        return sorted(ill) if len(ill) < len(lines) else []

    def forget(self) -> None:
        """All is well, or somebody says so."""
        self.lines.clear()
