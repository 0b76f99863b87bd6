"""Bounds a queue's rate while it is not known how much the provider accepts; rises until it no longer bounds.
Pure."""

from dataclasses import dataclass

_DOUBLING_SECONDS = 2.0
# A report lets it rise for the time since the last one, but not for a long silence.
_CREDIT_SECONDS = 1.5
# Calls that were in flight at a cut are refused once more, which is no new information.
_ONE_CUT_SECONDS, _ONE_CUT_CALLS = 5.0, 2.0


@dataclass(slots=True)
class Ramp:
    """``rate`` is calls per second, None: no bound. After a start or an idle time it rises exponentially; after an
    outage, a parked state or a slow down it rises linearly, from 0 to the whole limit in ``seconds``."""

    rate: float | None = None
    seconds: float = 0.0
    at: float = 0.0
    cut_at: float | None = None

    @property
    def after_trouble(self) -> bool:
        """Whether it rises linearly, whatever quota headers report as left."""
        return self.rate is not None and self.seconds > 0

    def begin(self, rate: float, now: float, seconds: float = 0.0) -> None:
        """Bound the rate from now on."""
        self.rate, self.at, self.seconds = rate, now, seconds

    def end(self) -> None:
        """Stop bounding the rate."""
        self.rate = None

    def climb(self, whole: float | None, now: float) -> None:
        """Raise the rate: calls were sent since the last time and none was refused. ``whole`` is how many calls
        per second the limits refill, None where no limit is known."""
        if self.rate is None:
            return
        credit = max(min(now - self.at, max(_CREDIT_SECONDS, 1 / self.rate)), 0.0)
        self.at = max(now, self.at)
        if self.seconds and whole is not None:
            self.rate += whole * credit / self.seconds
        else:
            self.rate *= 2 ** (credit / _DOUBLING_SECONDS)

    def cut(self, rate: float, now: float, seconds: float) -> None:
        """Restart at a lower rate, once for all calls that were in flight."""
        if self.cut_at is None or now - self.cut_at >= max(_ONE_CUT_SECONDS, _ONE_CUT_CALLS / rate):
            self.cut_at = now
            self.begin(rate, now, seconds)
