"""All limits of one queue together: reports in, a rate out. Pure: no I/O, no clock; ``now`` is unix seconds."""

import math
from dataclasses import dataclass, field

from fleet.budgets.law.breaker import PROBE_RATE, RESET_UNKNOWN_SECONDS, Breaker
from fleet.budgets.law.bucket import Bucket
from fleet.budgets.law.known_machines import Roster
from fleet.budgets.law.ramp import Ramp
from fleet.budgets.law.unreported_calls import Unheard
from fleet.budgets.messages import MIN_RATE, UNLIMITED, HeldModel, Opening, Reading, Report, Trouble
from fleet.contracts import Limited, LimitSettings
from fleet.failures import LIMITS, FailureKind

_REST_SECONDS, _REST_CALLS, _RISE_SECONDS = 2.5, 2.5, 1.0
_AFTER_REST_SHARE = 0.2
_FIRST_RATE = 10.0
_MIN_LEARNED_RATE = 0.2
_COUNTED_SECONDS = 60.0
# Cost of a call where the processes do not report one.
_FIRST_COSTS = {Limited.REQUESTS: 1.0, Limited.TOKENS: 1000.0, Limited.INPUT_TOKENS: 1000.0}
_FIRST_COST = 800.0
# After an outage, a parked state or a slow down the rate rises linearly, from 0 to the whole limit within this
# time; after a slow down, which the provider asked for, it takes longer.
_AFTER_TROUBLE_RATE = 1.0
_RECOVERY_SECONDS, _SLOW_SECONDS = 30.0, 120.0
_SLOWER, _LOWER = 0.5, 0.8
# Half-life of the average of calls per second that go back unsent, and the weight of each such call.
_WEIGHED_HALF_LIFE_SECONDS = 2.0
_WEIGHT = math.log(2) / _WEIGHED_HALF_LIFE_SECONDS
# How many more calls are dispatched to make up for those that go back unsent, at most; processes spend some
# milliseconds on each.
_MIN_UNSENT, _MAX_UNSENT_SHARE, _SURPLUS, _MAX_DISPATCHED = 0.05, 0.95, 1.25, 100.0
# Until processes notice that the budget workflow runs again, they report rarely; see ``Reporter``.
_RETURN_SECONDS = 30.0

#: Reason of the pause of a new budget whose queue dispatches nothing when the budget starts.
SHUT_BEFORE = "the queue dispatched nothing when its budget workflow was started"


@dataclass(slots=True)
class Budget:
    """The state of one queue's budget; plain data, so that a workflow can carry it over.

    ``configured`` are the settings' limits, ``chosen`` the operator's, which override them. ``flying`` holds, for
    each process, its number of calls in flight and the time of that report. ``heard_rate`` is the rate that the
    last report led to. ``held_models`` have no quota for a time; ``unsent`` and ``sent`` are how many of the
    queue's calls per second went back unsent because of that and how many did not, as of ``weighed_at``.
    ``settling``: the budget workflow did not run until ``missed_at``, and not every process has reported since.
    """

    queue: str
    configured: LimitSettings = field(default_factory=LimitSettings)
    chosen: LimitSettings = field(default_factory=LimitSettings)
    buckets: dict[str, Bucket] = field(default_factory=dict)
    breaker: Breaker = field(default_factory=Breaker)
    paused: str | None = None
    exact: bool = True
    bound: Ramp = field(default_factory=Ramp)
    begun: bool = False
    heard_at: float | None = None
    heard_rate: float = MIN_RATE
    settling: bool = False
    missed_at: float = 0.0
    pace: float = 0.0
    calls: int = 0
    answered: int = 0
    refused: int = 0
    costs: dict[str, float] = field(default_factory=dict)
    call_seconds: float = 600.0
    flying: dict[str, list[float]] = field(default_factory=dict)
    resumes: int = 0
    held_models: dict[str, HeldModel] = field(default_factory=dict)
    unsent: float = 0.0
    sent: float = 0.0
    weighed_at: float = 0.0
    roster: Roster = field(default_factory=Roster)
    unheard: Unheard = field(default_factory=Unheard)

    def open(self, opening: Opening, now: float) -> None:
        """A process announces that it will poll the queue."""
        self.roster.opened(opening.home, now)
        self.configured = opening.limits
        self.exact = opening.exact and opening.rate is not None
        self.costs = opening.costs or self.costs
        self.call_seconds = opening.timeout_seconds
        if not self.begun:
            # The queue keeps its current rate until something is known.
            self.begun = True
            if opening.rate == 0:
                self.paused = SHUT_BEFORE
            self.bound.begin(_FIRST_RATE if opening.rate is None else max(opening.rate, MIN_RATE), now)
        self._set_limits(now)

    def limit(self, limits: LimitSettings, now: float) -> None:
        """Set the operator's limits; where one is None, the settings and the provider decide."""
        before = self._open_rate()
        self.chosen = limits
        self._set_limits(now)
        if self._open_rate() > before and not self._all_measured():
            self.bound.begin(max(before, _AFTER_TROUBLE_RATE), now)

    def _wanted(self) -> dict[str, float]:
        return {str(what): refill for what, refill in (self.configured.refills() | self.chosen.refills()).items()}

    def _set_limits(self, now: float) -> None:
        for what, refill in self._wanted().items():
            if bucket := self.buckets.get(what):
                bucket.advance(now)
                bucket.capped = bucket.measured
                bucket.set_refill(refill)
            else:
                self._add(what, refill, now)
        for what in [*self.buckets]:
            unheard = not self.buckets[what].measured and not self.buckets[what].learned
            if unheard and what not in self._wanted():
                del self.buckets[what]

    def _add(self, what: str, refill: float, now: float) -> Bucket:
        cost = self.costs.get(what) or _FIRST_COSTS.get(Limited(what), _FIRST_COST)
        self.buckets[what] = Bucket(refill, now, mean_cost=cost, largest_cost=cost)
        return self.buckets[what]

    def pause(self, why: str) -> None:
        """The operator pauses the queue."""
        self.paused = why

    def resume(self, now: float) -> None:
        """The operator resumes the queue, whatever stopped it."""
        self.paused = None
        self.resumes += 1
        self._open_again(now)

    def new_key(self, mark: str, now: float) -> None:
        """The provider's key has changed; ``mark`` is that of the new one."""
        if (known := self.key_in_trouble) and mark != known:
            self.resumes += 1
            self._open_again(now)

    @property
    def key_in_trouble(self) -> str:
        """The mark of the key that was rejected, or that has no quota for a model; empty where there is none."""
        return self.breaker.rejected_key or next((model.key for model in self.held_models.values()), "")

    def _open_again(self, now: float) -> None:
        troubled = self.breaker.state != "closed"
        self.held_models.clear()
        self.breaker.close()
        self.bound.begin(_AFTER_TROUBLE_RATE, now, _RECOVERY_SECONDS if troubled else 0.0)

    def missed(self, now: float) -> None:
        """The budget workflow did not run for a while, the processes continued, and now it runs again. Until all
        of them have reported what they did, neither levels nor silence mean anything, and the rate is the
        refill."""
        if self.missed_at and now < self.missed_at + 2 * _RETURN_SECONDS:
            return
        self.settling, self.missed_at = True, now
        for bucket in self.buckets.values():
            bucket.unsure = True

    def _settle(self) -> None:
        self.settling = False
        for bucket in self.buckets.values():
            bucket.level = max(bucket.level, bucket.unheard)

    def pass_time(self, now: float) -> None:
        """Apply what changes with time alone."""
        kept = 0.5 ** (max(now - self.weighed_at, 0.0) / _WEIGHED_HALF_LIFE_SECONDS)
        self.unsent, self.sent, self.weighed_at = self.unsent * kept, self.sent * kept, max(now, self.weighed_at)
        self.held_models = {name: model for name, model in self.held_models.items() if model.until > now}
        self.unheard.order(self.rate(), self.pace, now)
        unheard = self.unheard.calls(now)
        for bucket in self.buckets.values():
            bucket.advance(now)
            bucket.unheard = unheard * bucket.mean_cost
        self.flying = {
            process: told for process, told in self.flying.items() if told[0] and now - told[1] < self.call_seconds
        }
        if self.breaker.pass_time(now, in_flight=bool(self.flying)):
            self.bound.begin(_AFTER_TROUBLE_RATE, now, _RECOVERY_SECONDS)
        if self.settling and now > self.missed_at + _RETURN_SECONDS:
            self._settle()
        if self.heard_at is not None and not self.settling and now - self.heard_at > self._rest_seconds():
            self._rest(now)

    def _rest_seconds(self) -> float:
        """Seconds without a report after which the levels are not trusted."""
        return max(_REST_SECONDS, _REST_CALLS / self.heard_rate + _RISE_SECONDS)

    @property
    def resting(self) -> bool:
        """Whether there have been no reports for so long that the levels are not known."""
        return self.heard_at is None

    def _rest(self, now: float) -> None:
        self.heard_at, self.pace = None, 0.0
        for bucket in self.buckets.values():
            bucket.rest()
        rate = max(_AFTER_REST_SHARE * (self._whole() or _FIRST_RATE), _AFTER_TROUBLE_RATE)
        if not self.bound.after_trouble:
            self.bound.begin(rate, now)

    def _whole(self) -> float | None:
        """Calls per second that the limits refill; None where no limit is known."""
        return min((bucket.pace for bucket in self.buckets.values()), default=None)

    def take(self, report: Report, now: float) -> None:
        """Process one process's report."""
        self.unheard.hear(report, now)
        self.pass_time(now)
        self.roster.heard(report.machine, now)
        self.flying[report.process] = [report.in_flight, now]
        self.unsent += report.held * _WEIGHT
        self.sent += report.calls * _WEIGHT
        if not (report.calls or report.answered or report.troubles or any(report.spent.values())):
            self.breaker.machines.take(report.machine, 0, "", now, arrived=False)
            return  # it only says that calls are in flight
        if self.resting:
            self.bound.at = now
            for bucket in self.buckets.values():
                bucket.rest()
        before = self._open_rate()
        self._climb(report, now)
        self._count(report, now)
        self.heard_at = now
        self._judge(report, now)
        self._learn(report, now)
        self._refuse(report, before, now)
        if not self.bound.after_trouble and self._all_measured():
            self.bound.end()
        if self.bound.rate is None and not self.settling:
            for bucket in self.buckets.values():
                bucket.unsure = bucket.unsure and bucket.measured
        self.heard_rate = self._open_rate()

    def _judge(self, report: Report, now: float) -> None:
        before = self.breaker.state
        for trouble in report.troubles:
            if trouble.model:
                wait = RESET_UNKNOWN_SECONDS if trouble.wait_seconds is None else trouble.wait_seconds
                self.held_models[trouble.model] = HeldModel(trouble.model, now + wait, trouble.detail, trouble.key)
        self.breaker.take(report.answered, report.troubles, now, report.machine)
        if before == "probing" and self.breaker.state == "closed":
            self.bound.begin(_AFTER_TROUBLE_RATE, now, _RECOVERY_SECONDS)

    def _all_measured(self) -> bool:
        known = list(self.buckets.values())
        return bool(known) and all(bucket.measured and not bucket.unsure for bucket in known)

    def _climb(self, report: Report, now: float) -> None:
        if _refusals(report) or not (report.calls or report.answered):
            self.bound.at = now
            return
        whole = self._whole()
        self.bound.climb(whole, now)
        if self.bound.rate is not None and self.bound.rate >= max(self.allowed(), whole or UNLIMITED):
            self.bound.end()

    def _count(self, report: Report, now: float) -> None:
        passed = max(now - self.heard_at, 0.05) if self.heard_at is not None else _COUNTED_SECONDS
        kept = 0.5 ** (min(passed, _COUNTED_SECONDS) / (_COUNTED_SECONDS / 6))
        self.pace = self.pace * kept + report.calls * (1 - kept) / passed
        self.calls += report.calls
        self.answered += report.answered
        self.refused += sum(refusal.count for refusal in _refusals(report))

    def _learn(self, report: Report, now: float) -> None:
        for reading in report.readings:
            self._know(reading, now)
        for what, bucket in self.buckets.items():
            spent, largest = report.spent.get(what, 0.0), report.largest.get(what, 0.0)
            bucket.spend(spent, report.charged, largest, report.sent)
        if self.settling:
            return
        for bucket in self.buckets.values():
            bucket.settle()
        for reading in report.readings:
            if not reading.refused:
                self._observe(reading.what, reading.remaining, reading.age_seconds, now)

    def _observe(self, what: str, remaining: float, age_seconds: float, now: float) -> None:
        bucket = self.buckets[what]
        bucket.observe(remaining, age_seconds, self.unheard.calls(now, now - age_seconds) * bucket.mean_cost)

    def _know(self, reading: Reading, now: float) -> None:
        """A limit that headers report gets a bucket with the refill that applies."""
        wanted = self._wanted().get(reading.what)
        refill = reading.refill if wanted is None else min(wanted, reading.refill)
        bucket, moment = (
            self.buckets.get(reading.what) or self._add(reading.what, refill, now),
            now - reading.age_seconds,
        )
        if bucket.told_at is not None and moment < bucket.told_at:
            return  # a newer answer has reported it
        bucket.told_at = moment
        bucket.capped = wanted is not None and wanted < 0.98 * reading.refill
        bucket.learned = False
        bucket.set_refill(refill)

    def _refuse(self, report: Report, before: float, now: float) -> None:
        refusals = _refusals(report)
        if not refusals:
            return
        wait = max(
            (refusal.wait_seconds for refusal in refusals if refusal.wait_seconds is not None), default=None
        )
        if not self.buckets:
            self._add(Limited.REQUESTS, max(self.pace * 0.9, _MIN_LEARNED_RATE), now).learned = True
        read = {str(reading.what): reading.remaining for reading in report.readings if reading.refused}
        ample = bool(read) and all(self.buckets[what].ample(left) for what, left in read.items())
        short = [what for what, left in read.items() if left < self.buckets[what].largest_cost]
        # Where enough is left of every reported limit, the provider counts something else too.
        for what in short or ([] if ample else [min(self.buckets, key=self._headroom)]):
            self.buckets[what].refuse(wait, whole=read[what] if short else None)
            self.buckets[what].unsure = self.settling
        for what, left in read.items():
            if what not in short and not self.settling:
                self._observe(what, left, 0.0, now)
        if any(refusal.meaning == FailureKind.SLOW_DOWN for refusal in refusals):
            self._slow_down(_SLOWER, before, now)
        elif ample:
            self._slow_down(_LOWER, before, now)

    def _slow_down(self, share: float, before: float, now: float) -> None:
        used = max(min(before, self.pace), min(before, _AFTER_TROUBLE_RATE))
        # No slower than a failing provider is probed: known limits below that apply in addition.
        self.bound.cut(max(share * used, PROBE_RATE), now, _SLOW_SECONDS)

    def _headroom(self, what: str) -> float:
        bucket = self.buckets[what]
        return bucket.left / bucket.mean_cost

    def allowed(self) -> float:
        """Calls per second allowed by the limits alone."""
        return max(min([*(bucket.rate() for bucket in self.buckets.values()), UNLIMITED]), MIN_RATE)

    def _open_rate(self) -> float:
        """Calls per second if the queue is neither paused nor parked."""
        bounds = [self.allowed()]
        if self.breaker.state == "probing":
            bounds.append(PROBE_RATE)
        if self.bound.rate is not None:
            bounds.append(self.bound.rate)
        return max(min(bounds), MIN_RATE)

    def rate(self) -> float:
        """Calls per second that may be sent, as of the last report or :meth:`pass_time`."""
        shut = self.paused is not None or self.breaker.state == "parked"
        return 0.0 if shut else self._open_rate()

    def dispatch_rate(self) -> float:
        """Calls per second that the queue may dispatch. While a model's calls go back unsent, the queue dispatches
        enough more that these take no capacity from other calls; the processes' gates then keep the rate."""
        rate = self.rate()
        if not (rate and self.held_models and self.unsent > _MIN_UNSENT):
            return rate
        share = min(self.unsent / (self.unsent + self.sent), _MAX_UNSENT_SHARE)
        return min(_SURPLUS * rate / (1 - share), max(rate, _MAX_DISPATCHED))


def _refusals(report: Report) -> list[Trouble]:
    return [trouble for trouble in report.troubles if trouble.meaning in LIMITS]
