"""What others certainly take of a limit. Pure: no I/O, no clock.

:attr:`Bucket.foreign` steers the rate. It reacts within seconds, and for a while it also absorbs the errors of all
other estimates, most of all after a change of load. What people read comes from a balance instead: over a span in
which the provider's bucket was never full, others took what its headers show as gone, less what this fleet spent.
Consecutive spans must show it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

_SPAN_SECONDS, _SPAN_CALLS = 30.0, 20.0
_SPANS = 2
# A span is balanced so long after its end: by then what was sent in it has been reported.
_SETTLED_SECONDS = 30.0
# What is taken off for calls that one of a span's two headers includes and the sum of what was spent does not.
_MARGIN_SECONDS, _MARGIN_CALLS = 1.5, 2.0
# Above this share of its capacity a bucket may have been full, and its refill lost.
_FULL_SHARE = 0.9


@dataclass(slots=True)
class ExternalUsage:
    """Times are unix seconds. ``since`` and ``remaining`` are the header with which the current span began,
    ``seen`` and ``left`` the latest one. ``ended`` has the spans to be balanced, each as [begin, end, taken];
    ``shares`` are the shares of the refill that others took in the latest balanced ones."""

    since: float | None = None
    remaining: float = 0.0
    seen: float = 0.0
    left: float = 0.0
    ended: list[list[float]] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)

    @property
    def share(self) -> float:
        """The share of the refill that others certainly take, from 0 to 1."""
        return min(max(min(self.shares), 0.0), 1.0) if len(self.shares) == _SPANS else 0.0

    def forget(self) -> None:
        """Begin anew: the balance was interrupted, or the limit has changed."""
        self.since = None
        self.ended.clear()
        self.shares.clear()

    def observe(self, moment: float, remaining: float, refill: float, capacity: float, call: float) -> None:
        """Headers said that ``remaining`` of ``capacity`` was left at ``moment``; ``call`` is a large call's
        cost."""
        full = _FULL_SHARE * capacity
        if remaining >= full or self.since is None or self.left + refill * (moment - self.seen) >= full:
            self.forget()
            self.since, self.remaining = moment, remaining
        elif moment - self.since >= max(_SPAN_SECONDS, _SPAN_CALLS * call / refill):
            taken = self.remaining - remaining + refill * (moment - self.since)
            self.ended.append([self.since, moment, taken])
            self.since, self.remaining = moment, remaining
        self.seen, self.left = moment, remaining

    def balance(self, now: float, refill: float, spent: Sequence[Sequence[float]], call: float) -> None:
        """Balance the spans that ended long enough ago. ``spent`` has [time, amount] of what this fleet sent."""
        while self.ended and now - self.ended[0][1] >= _SETTLED_SECONDS:
            begin, end, taken = self.ended.pop(0)
            ours = sum(amount for sent_at, amount in spent if begin < sent_at <= end)
            margin = _MARGIN_SECONDS * refill + _MARGIN_CALLS * call
            self.shares = [*self.shares, (taken - ours - margin) / (refill * (end - begin))][-_SPANS:]
