"""Bounds a queue's rate while it is not known what the provider takes, and rises until it bounds nothing. Pure."""

from dataclasses import dataclass

_DOUBLING_SECONDS = 2.0
# A report lets it rise for the time since the last one, but not for a silence.
_CREDIT_SECONDS = 1.5
# Calls that were under way when it was cut are refused once more, and say nothing new.
_ONE_CUT_SECONDS, _ONE_CUT_CALLS = 5.0, 2.0


@dataclass(slots=True)
class Ramp:
    """``rate`` is calls a second, None: no bound. It rises by doubling after a start or a rest, and after trouble
    by equal steps, from 0 to the whole limit in ``seconds``."""

    rate: float | None = None
    seconds: float = 0.0
    at: float = 0.0
    cut_at: float | None = None

    @property
    def after_trouble(self) -> bool:
        """Whether it rises by steps, whatever headers say of quota left."""
        return self.rate is not None and self.seconds > 0

    def begin(self, rate: float, now: float, seconds: float = 0.0) -> None:
        """Bound the rate from now on."""
        self.rate, self.at, self.seconds = rate, now, seconds

    def end(self) -> None:
        """Bound nothing any more."""
        self.rate = None

    def climb(self, whole: float | None, now: float) -> None:
        """Calls were sent since the last time, and none was refused; ``whole`` is how many a second the limits
        give back, None where none is known."""
        if self.rate is None:
            return
        credit = max(min(now - self.at, max(_CREDIT_SECONDS, 1 / self.rate)), 0.0)
        self.at = max(now, self.at)
        if self.seconds and whole is not None:
            self.rate += whole * credit / self.seconds
        else:
            self.rate *= 2 ** (credit / _DOUBLING_SECONDS)

    def cut(self, rate: float, now: float, seconds: float) -> None:
        """Begin at a lower rate, once for all calls that were under way."""
        if self.cut_at is None or now - self.cut_at >= max(_ONE_CUT_SECONDS, _ONE_CUT_CALLS / rate):
            self.cut_at = now
            self.begin(rate, now, seconds)
