"""A fleet, its queue and a provider in virtual time, around the real budget: minutes in milliseconds."""

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from fleet.budgets.budget import Budget
from fleet.budgets.reports import Opening, Reading, Report, Trouble
from fleet.contracts import Limited, LimitSettings
from fleet.meanings import Meaning

TICK = 0.02


@dataclass
class Provider:
    """One true token bucket. ``tenant`` is what another customer takes a second."""

    refill: float
    capacity: float
    headers: bool = True
    tenant: float = 0.0
    level: float = 0.0
    down: Meaning | None = None
    at: float = 0.0

    def __post_init__(self) -> None:
        self.level = self.capacity

    def advance(self, now: float) -> None:
        flow = (self.refill - self.tenant) * (now - self.at)
        self.level = min(self.capacity, max(self.level + flow, min(self.level, 0.0)))
        self.at = now

    def set_refill(self, refill: float) -> None:
        self.capacity *= refill / self.refill
        self.level *= refill / self.refill
        self.refill = refill

    def take(self, cost: float) -> bool:
        if self.level < cost:
            return False
        self.level -= cost
        return True


@dataclass
class Worker:
    """One process: what it has not reported yet."""

    name: str
    calls: int = 0
    charged: int = 0
    answered: int = 0
    spent: float = 0.0
    largest: float = 0.0
    reading: tuple[float, float, float, bool] | None = None
    troubles: dict[str, int] = field(default_factory=dict)
    wait: float | None = None
    reported_at: float = 0.0
    hold_until: float = 0.0

    def told(self, now: float) -> None:
        """All of it has been reported."""
        self.calls = self.charged = self.answered = 0
        self.spent = self.largest = 0.0
        self.reading, self.troubles, self.wait, self.reported_at = None, {}, None, now


@dataclass
class World:
    """Runs until told; ``calls`` are (sent at, cost, whether it was taken)."""

    provider: Provider
    limits: LimitSettings = field(default_factory=LimitSettings)
    what: Limited = Limited.REQUESTS
    processes: int = 3
    latency: float = 0.7
    cost: Callable[[random.Random], float] = lambda chance: 1.0
    seed: int = 1
    delay: float = 0.15
    working: Callable[[float], bool] = lambda now: True
    concurrency: int = 60

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.now = 0.0
        self.budget = Budget("llm-test")
        self.budget.open(Opening(self.limits, 2.0), self.now)
        self.queue_rate = self.budget.rate()
        self.allowance = 1.0
        self.workers = [Worker(f"w{number}") for number in range(self.processes)]
        self.calls: list[tuple[float, float, bool]] = []
        self.rates: list[tuple[float, float]] = []
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.retries: deque[float] = deque()
        self.number = 0
        self.in_flight = 0
        self.next_set = 0.0

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        self.number += 1
        heapq.heappush(self.events, (self.now + seconds, self.number, action))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += TICK
            self.provider.advance(self.now)
            while self.events and self.events[0][0] <= self.now:
                heapq.heappop(self.events)[2]()
            self._dispatch()
            self._report()
            self._steer()

    def _dispatch(self) -> None:
        # Temporal's limiter keeps at most one second's worth.
        self.allowance = min(self.allowance + self.queue_rate * TICK, max(self.queue_rate, 1.0))
        while self.allowance >= 1 and self.in_flight < self.concurrency and self.working(self.now):
            self.allowance -= 1
            self.in_flight += 1
            worker = self.chance.choice(self.workers)
            lag = self.chance.uniform(0.03, 0.2) + max(worker.hold_until - self.now, 0.0)
            self.later(lag, lambda worker=worker: self._send(worker))

    def _send(self, worker: Worker) -> None:
        provider = self.provider
        cost = self.retries.popleft() if self.retries else self.cost(self.chance)
        if provider.down is not None:
            self.calls.append((self.now, cost, False))
            self.retries.append(cost)
            self.in_flight -= 1
            worker.calls += 1
            worker.troubles[provider.down] = worker.troubles.get(provider.down, 0) + 1
            return
        taken = provider.take(cost)
        self.calls.append((self.now, cost, taken))
        worker.calls += 1
        left = max(provider.level, 0.0)
        sent = self.now
        if taken:
            worker.charged += 1
            worker.spent += cost
            worker.largest = max(worker.largest, cost)
            self.later(
                self.chance.lognormvariate(0, 0.15) * self.latency, lambda: self._answered(worker, sent, left)
            )
            return
        worker.troubles[Meaning.RATE] = worker.troubles.get(Meaning.RATE, 0) + 1
        wait = (cost - left) / max(provider.refill - provider.tenant, 0.01)
        worker.wait = max(worker.wait or 0.0, wait)
        worker.hold_until = self.now + wait
        self.in_flight -= 1
        self.retries.append(cost)
        if provider.headers:
            worker.reading = (sent, left, provider.refill, True)

    def _answered(self, worker: Worker, sent: float, left: float) -> None:
        worker.answered += 1
        self.in_flight -= 1
        if self.provider.headers and not (worker.reading and worker.reading[3]):
            worker.reading = (sent, left, self.provider.refill, False)

    def _report(self) -> None:
        for worker in self.workers:
            pause = 0.25 if Meaning.RATE in worker.troubles else 1.0
            if self.now - worker.reported_at < pause or not (worker.calls or worker.answered or worker.troubles):
                continue
            readings = []
            if worker.reading:
                sent, left, refill, refused = worker.reading
                readings = [Reading(self.what, refill, left, self.now - sent, refused)]
            report = Report(
                process=worker.name,
                calls=worker.calls,
                charged=worker.charged,
                answered=worker.answered,
                spent={self.what: worker.spent},
                largest={self.what: worker.largest},
                readings=readings,
                troubles=[Trouble(name, count, "", worker.wait) for name, count in worker.troubles.items()],
            )
            self.later(self.chance.uniform(0.05, self.delay), lambda report=report: self._take(report))
            worker.told(self.now)

    def _take(self, report: Report) -> None:
        self.budget.take(report, self.now)

    def _steer(self) -> None:
        if self.now < self.next_set:
            return
        self.next_set = self.now + 0.2
        self.budget.pass_time(self.now)
        wanted = self.budget.rate()
        if abs(wanted - self.queue_rate) > 0.03 * self.queue_rate or (wanted == 0) != (self.queue_rate == 0):
            self.later(0.1, lambda: self._set(wanted))
        self.rates.append((self.now, wanted))

    def _set(self, rate: float) -> None:
        self.queue_rate = rate

    def utilisation(self, begin: float, end: float, refill: float) -> float:
        """Cost of the calls taken, of what refilled meanwhile."""
        return sum(cost for at, cost, taken in self.calls if begin <= at < end and taken) / (
            refill * (end - begin)
        )

    def share_refused(self, begin: float = 0.0, end: float = math.inf) -> float:
        """Calls not taken, of all calls."""
        found = [taken for at, _, taken in self.calls if begin <= at < end]
        return 1 - sum(found) / len(found) if found else 0.0


def lognormal(largest: float, sigma: float = 1.5, share: float = 1.0) -> Callable[[random.Random], float]:
    """Costs up to ``largest``; ``share`` is their median's part of it."""

    def cost(chance: random.Random) -> float:
        return min(chance.lognormvariate(math.log(largest * share), sigma), largest)

    return cost
