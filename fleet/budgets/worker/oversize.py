"""Requests that are larger than what a limit allows in a whole minute: they are refused however long they wait."""

from collections.abc import Iterable
from dataclasses import dataclass

from fleet.budgets.worker.call_costs import Cost
from fleet.budgets.worker.limit_headers import HeaderReading
from fleet.contracts import Limited, LimitSettings

#: Limits that charge a call on arrival, by its size. Output is counted as it is written.
_BY_SIZE = (Limited.TOKENS, Limited.INPUT_TOKENS)
# A size is an estimate: it must exceed the limit by this factor.
_SURELY = 1.2
# The share of a limit that must remain for it to count as unused; and how large an estimate must be, as a share of
# the limit, for a refusal by an unused limit to be due to this request's size and not to a hidden limit.
_UNUSED_SHARE, _LARGE_SHARE = 0.99, 0.5


@dataclass(frozen=True, slots=True)
class Oversize:
    """A request of about ``tokens`` tokens, for which the ``limit`` per minute never has room."""

    tokens: float
    limit: float

    def __str__(self) -> str:
        return f"the request has about {self.tokens:,.0f} tokens, the limit is {self.limit:,.0f} a minute"


class SizeLimits:
    """The token limits of one queue's models: as headers last reported them, otherwise from the settings."""

    def __init__(self, settings: LimitSettings) -> None:
        self._settings = {what: 60 * refill for what, refill in settings.refills().items() if what in _BY_SIZE}
        self._told: dict[str, dict[Limited, float]] = {}

    def heard(self, model: str, readings: Iterable[HeaderReading]) -> None:
        """An answer of that model reported these limits."""
        if found := {reading.what: reading.limit for reading in readings if reading.what in _BY_SIZE}:
            self._told[model] = found

    def exceeded_by(self, model: str, cost: Cost) -> Oversize | None:
        """The limit that a single call of this estimated cost exceeds."""
        limits = self._told.get(model, self._settings)
        return next(
            (Oversize(cost[what], most) for what, most in limits.items() if cost.get(what, 0.0) > _SURELY * most),
            None,
        )

    def refused_for(self, model: str, cost: Cost, readings: Iterable[HeaderReading]) -> Oversize | None:
        """The limit that is too small for a call of that cost, according to a refusal that reported these
        readings."""
        told = list(readings)
        exceeded = self.exceeded_by(model, cost)
        if exceeded is not None:
            # Where another limit has no room, that one caused the refusal.
            short = any(reading.remaining < cost.get(reading.what, 0.0) <= reading.limit for reading in told)
            return None if short else exceeded
        return self.refused_unused(cost, told)

    def refused_unused(self, cost: Cost, readings: Iterable[HeaderReading]) -> Oversize | None:
        """The limit that had no room for a call of this estimated cost although the refusal reported all limits as
        unused. A refused call may itself count as a request."""
        told = list(readings)
        if not all(_unused(reading) for reading in told):
            return None
        large = [
            reading
            for reading in told
            if reading.what in _BY_SIZE and cost.get(reading.what, 0.0) > _LARGE_SHARE * reading.limit
        ]
        return next((Oversize(cost[reading.what], reading.limit) for reading in large), None)


def _unused(reading: HeaderReading) -> bool:
    used = reading.limit - reading.remaining
    itself = reading.what is Limited.REQUESTS and used <= 1 < reading.limit
    return used <= (1 - _UNUSED_SHARE) * reading.limit or itself
