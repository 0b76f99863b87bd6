"""Requests that are larger than what a limit allows in a whole minute: they are refused however long they wait."""

from collections.abc import Iterable
from dataclasses import dataclass

from fleet.budgets.worker.call_costs import Cost
from fleet.budgets.worker.limit_headers import HeaderReading
from fleet.contracts import Limited, LimitSettings

#: Limits that a call is charged with at its arrival, by its size. Output is counted as it is written.
_BY_SIZE = (Limited.TOKENS, Limited.INPUT_TOKENS)
# A size is an estimate: it must be so much larger than the limit.
_SURELY = 1.2
# How close to its whole a limit counts as unused, and how large an estimate must be for it to be this request's
# size and no hidden limit that an unused one refuses it for.
_UNUSED_SHARE, _LARGE_SHARE = 0.99, 0.5


@dataclass(frozen=True, slots=True)
class Oversize:
    """A request of about ``tokens`` that the limit of so many a minute never has room for."""

    tokens: float
    limit: float

    def __str__(self) -> str:
        return f"the request has about {self.tokens:,.0f} tokens, the limit is {self.limit:,.0f} a minute"


class SizeLimits:
    """The token limits of one queue's models: as headers told them last, else as the settings say."""

    def __init__(self, settings: LimitSettings) -> None:
        self._settings = {what: 60 * refill for what, refill in settings.refills().items() if what in _BY_SIZE}
        self._told: dict[str, dict[Limited, float]] = {}

    def heard(self, model: str, readings: Iterable[HeaderReading]) -> None:
        """An answer of that model told of these limits."""
        if found := {reading.what: reading.limit for reading in readings if reading.what in _BY_SIZE}:
            self._told[model] = found

    def exceeded_by(self, model: str, cost: Cost) -> Oversize | None:
        """The limit that a call of this estimated cost exceeds all alone."""
        limits = self._told.get(model, self._settings)
        return next(
            (Oversize(cost[what], most) for what, most in limits.items() if cost.get(what, 0.0) > _SURELY * most),
            None,
        )

    def refused_for(self, model: str, cost: Cost, readings: Iterable[HeaderReading]) -> Oversize | None:
        """The limit that a refusal, which told of these, shows to be too small for a call of that cost."""
        told = list(readings)
        exceeded = self.exceeded_by(model, cost)
        if exceeded is not None:
            # Where another limit has no room, the call was refused for its sake.
            short = any(one.remaining < cost.get(one.what, 0.0) <= one.limit for one in told)
            return None if short else exceeded
        return self.refused_unused(cost, told)

    def refused_unused(self, cost: Cost, readings: Iterable[HeaderReading]) -> Oversize | None:
        """The limit that had no room for a call of this estimated cost although a refusal, which told of all these
        limits, found all of them unused. A refused call may itself count as a request."""
        told = list(readings)
        if not all(_unused(one) for one in told):
            return None
        large = [
            one for one in told if one.what in _BY_SIZE and cost.get(one.what, 0.0) > _LARGE_SHARE * one.limit
        ]
        return next((Oversize(cost[one.what], one.limit) for one in large), None)


def _unused(reading: HeaderReading) -> bool:
    used = reading.limit - reading.remaining
    itself = reading.what is Limited.REQUESTS and used <= 1 < reading.limit
    return used <= (1 - _UNUSED_SHARE) * reading.limit or itself
