"""All limits of one queue together: reports in, a rate out. Pure: no I/O, no clock; ``now`` is unix seconds."""

from dataclasses import dataclass, field

from fleet.budgets.breaker import PROBE_RATE, Breaker
from fleet.budgets.bucket import Bucket
from fleet.budgets.reports import LEAST_RATE, UNLIMITED, LimitStanding, Opening, Reading, Report, Standing
from fleet.contracts import Limited, LimitSettings
from fleet.meanings import Meaning

_REST_SECONDS = 2.5
_AFTER_REST_SHARE = 0.2
_FIRST_RATE = 10.0
_AFTER_TROUBLE_RATE = 1.0
_DOUBLING_SECONDS = 2.0
_COUNTED_SECONDS = 60.0


@dataclass(slots=True)
class Budget:
    """The state of one queue's budget; plain data, so that a workflow can carry it on.

    ``ramp`` bounds the rate after a start, a rest or trouble, and doubles until it bounds nothing.
    ``configured`` are the settings' limits, ``chosen`` the operator's, which win.
    """

    queue: str
    configured: LimitSettings = field(default_factory=LimitSettings)
    chosen: LimitSettings = field(default_factory=LimitSettings)
    buckets: dict[str, Bucket] = field(default_factory=dict)
    breaker: Breaker = field(default_factory=Breaker)
    paused: str | None = None
    exact: bool = True
    ramp: float | None = None
    ramped_at: float = 0.0
    begun: bool = False
    heard_at: float | None = None
    pace: float = 0.0
    calls: int = 0
    answered: int = 0
    refused: int = 0

    def open(self, opening: Opening, now: float) -> None:
        """A process will poll the queue."""
        self.configured = opening.limits
        self.exact = opening.exact and opening.rate is not None
        if not self.begun:
            # What the queue hands out now stays until something is known.
            self.begun = True
            self._ramp_from(_FIRST_RATE if opening.rate is None else max(opening.rate, LEAST_RATE), now)
        self._set_limits(now)

    def limit(self, limits: LimitSettings, now: float) -> None:
        """The operator's limits are these now; what is None is left to the settings and the provider."""
        self.chosen = limits
        self._set_limits(now)

    def _wanted(self) -> dict[str, float]:
        return {str(what): refill for what, refill in (self.configured.refills() | self.chosen.refills()).items()}

    def _set_limits(self, now: float) -> None:
        for what, refill in self._wanted().items():
            if bucket := self.buckets.get(what):
                bucket.advance(now)
                bucket.capped = bucket.measured
                bucket.set_refill(refill)
            else:
                self.buckets[what] = Bucket(refill, now)
        for what in [*self.buckets]:
            unheard = not self.buckets[what].measured and not self.buckets[what].learned
            if unheard and what not in self._wanted():
                del self.buckets[what]

    def pause(self, why: str) -> None:
        """The operator shuts the queue."""
        self.paused = why

    def resume(self, now: float) -> None:
        """The operator opens the queue, whatever shut it."""
        self.paused = None
        self._open_again(now)

    def new_key(self, mark: str, now: float) -> None:
        """The provider's key is another one now."""
        if self.breaker.rejected_key and mark != self.breaker.rejected_key:
            self._open_again(now)

    def _open_again(self, now: float) -> None:
        self.breaker.close()
        self._ramp_from(_AFTER_TROUBLE_RATE, now)

    def pass_time(self, now: float) -> None:
        """See what time alone changes."""
        for bucket in self.buckets.values():
            bucket.advance(now)
        if self.breaker.pass_time(now):
            self._ramp_from(_AFTER_TROUBLE_RATE, now)
        if self.heard_at is not None and now - self.heard_at > self.rest_seconds:
            self._rest(now)

    @property
    def rest_seconds(self) -> float:
        """Silence after which nothing is trusted any more."""
        slowest = min((bucket.net / bucket.mean_cost for bucket in self.buckets.values()), default=UNLIMITED)
        return max(_REST_SECONDS, 2.5 / max(slowest, 0.02))

    @property
    def resting(self) -> bool:
        """Whether nothing has been heard for so long that the levels are not known."""
        return self.heard_at is None

    def _rest(self, now: float) -> None:
        self.heard_at, self.pace = None, 0.0
        for bucket in self.buckets.values():
            bucket.rest()
        rates = [bucket.net / bucket.mean_cost for bucket in self.buckets.values()]
        self._ramp_from(max(_AFTER_REST_SHARE * min(rates, default=_FIRST_RATE), _AFTER_TROUBLE_RATE), now)

    def _ramp_from(self, rate: float, now: float) -> None:
        self.ramp, self.ramped_at = rate, now

    def take(self, report: Report, now: float) -> None:
        """One process's report."""
        self.pass_time(now)
        if self.resting:
            self.ramped_at = now
        self._climb(report, now)
        self._count(report, now)
        self.heard_at = now
        before = self.breaker.state
        self.breaker.take(report.answered, report.troubles, now)
        if before == "probing" and self.breaker.state == "closed":
            self._ramp_from(_AFTER_TROUBLE_RATE, now)
        for reading in report.readings:
            self._know(reading, now)
        for what, bucket in self.buckets.items():
            bucket.spend(report.spent.get(what, 0.0), report.charged, report.largest.get(what, 0.0))
        for reading in report.readings:
            if not reading.refused:
                self.buckets[reading.what].observe(reading.remaining, reading.age_seconds)
        self._refuse(report, now)
        if self.ramp is not None and self._all_measured():
            self.ramp = None

    def _all_measured(self) -> bool:
        known = list(self.buckets.values())
        return bool(known) and all(bucket.measured and not bucket.unsure for bucket in known)

    def _climb(self, report: Report, now: float) -> None:
        """Calls went out and were not refused: the ramp rises."""
        if self.ramp is None:
            return
        if report.calls or report.answered:
            self.ramp *= 2 ** (min(now - self.ramped_at, 1.5) / _DOUBLING_SECONDS)
        self.ramped_at = now
        if self.ramp >= min(self._allowed(), UNLIMITED):
            self.ramp = None
            for bucket in self.buckets.values():
                bucket.unsure = bucket.unsure and bucket.measured

    def _count(self, report: Report, now: float) -> None:
        passed = now - self.heard_at if self.heard_at is not None else _COUNTED_SECONDS
        kept = 0.5 ** (min(passed, _COUNTED_SECONDS) / (_COUNTED_SECONDS / 6))
        self.pace = self.pace * kept + report.calls * (1 - kept) / max(passed, 0.05) if passed else self.pace
        self.calls += report.calls
        self.answered += report.answered
        self.refused += sum(one.count for one in report.troubles if one.meaning == Meaning.RATE)

    def _know(self, reading: Reading, now: float) -> None:
        """A limit that headers tell of has its bucket, at the height that holds."""
        wanted = self._wanted().get(reading.what)
        refill = reading.refill if wanted is None else min(wanted, reading.refill)
        bucket = self.buckets.get(reading.what)
        if bucket is None:
            self.buckets[reading.what] = bucket = Bucket(refill, now)
        bucket.capped = wanted is not None and wanted < 0.98 * reading.refill
        bucket.learned = False
        bucket.set_refill(refill)

    def _refuse(self, report: Report, now: float) -> None:
        refusals = [one for one in report.troubles if one.meaning in (Meaning.RATE, Meaning.RAMP)]
        if not refusals:
            return
        waits = [one.wait_seconds for one in refusals if one.wait_seconds is not None]
        wait = max(waits, default=None)
        if not self.buckets:
            self.buckets[Limited.REQUESTS] = Bucket(max(self.pace * 0.9, LEAST_RATE), now, learned=True)
        read = {reading.what: reading.remaining for reading in report.readings if reading.refused}
        short = [what for what, left in read.items() if left < self.buckets[what].mean_cost]
        if short or not read:
            names: list[str] = [*short] or [min(self.buckets, key=self._headroom)]
            for what in names:
                self.buckets[what].refuse(wait, whole=read.get(Limited(what)))
        for what, left in read.items():
            if what not in short:
                self.buckets[what].observe(left, 0.0)
        if any(one.meaning == Meaning.RAMP for one in refusals):
            self._ramp_from(max(self._allowed() / 2, _AFTER_TROUBLE_RATE), now)

    def _headroom(self, what: str) -> float:
        bucket = self.buckets[what]
        return bucket.level / bucket.mean_cost

    def _allowed(self) -> float:
        """Calls a second by the limits alone."""
        counted = [bucket.rate() for bucket in self.buckets.values() if bucket.calls or bucket.mean_cost == 1.0]
        return max(min([*counted, UNLIMITED]), LEAST_RATE)

    def rate(self) -> float:
        """Calls a second that the queue may hand out, as of the last time that was told."""
        if self.paused is not None or self.breaker.state == "parked":
            return 0.0
        allowed = self._allowed()
        if self.breaker.state == "probing":
            return min(allowed, PROBE_RATE)
        return allowed if self.ramp is None else max(min(allowed, self.ramp), LEAST_RATE)

    def standing(self) -> Standing:
        """As an operator wants to see it."""
        return Standing(
            queue=self.queue,
            rate=round(self.rate(), 3),
            breaker="paused" if self.paused is not None else self.breaker.state,
            why=self._why(),
            exact=self.exact,
            calls=self.calls,
            answered=self.answered,
            refused=self.refused,
            limits=[
                LimitStanding(
                    what,
                    round(one.refill * 60, 1),
                    round(one.level, 1),
                    round(max(one.foreign, 0.0) * 60, 1),
                    round(one.mean_cost, 2),
                    one.measured,
                )
                for what, one in self.buckets.items()
            ],
            until=self.breaker.until,
            rejected_key=self.breaker.rejected_key,
            calls_per_minute=round(self.pace * 60, 1),
            set_limits=self.chosen,
        )

    def _why(self) -> str:
        if self.paused is not None:
            return self.paused
        if self.breaker.why:
            return self.breaker.why
        if self.resting:
            return "idle"
        if self.ramp is not None and self.ramp <= self._allowed():
            return "finding out how much the provider takes"
        if not self.buckets:
            return "no limit known"
        what = min(self.buckets, key=lambda name: self.buckets[name].rate())
        others = self.buckets[what].foreign / self.buckets[what].refill
        return f"limit of {what.replace('_', ' ')}" + (
            f", {others:.0%} of it taken by others" if others > 0.1 else ""
        )
