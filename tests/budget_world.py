"""A fleet, its queue and a provider in virtual time, around the real budget: minutes in milliseconds."""

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from fleet.budgets.law.budget import Budget
from fleet.budgets.law.budget_status import describe
from fleet.budgets.law.report_intake import LATE_SECONDS, ReportIntake
from fleet.budgets.messages import Opening, Reading, Report, Trouble
from fleet.budgets.worker.report_rate import Allowance, Haste
from fleet.contracts import Limited, LimitSettings
from fleet.failures import FailureKind
from fleet.process.reachability import Row, wait_after

TICK = 0.02
# As the budget's workflow does: a look after so much silence, then after twice as much, and at last none.
FIRST_LOOK, LAST_LOOK = 2.5, 80.0
# As the reporter does: where no pipeline worker runs it tells less, and asks now and then.
UNHEARD_PAUSE, ASK, NEWS_LOOK = 15.0, 10.0, 0.1
# As the watch does: where the server keeps no rate, it asks how the budget stands once in so many seconds.
DIRECTIVE = 1.0, 2.0
# As `fleet.execution.verdicts` does: a call that has to wait is back so soon.
AWAY = 60.0


@dataclass
class Provider:
    """One true token bucket. ``tenant`` is what another customer takes a second; ``hidden`` calls a second are a
    limit that its headers do not tell of."""

    refill: float
    capacity: float
    headers: bool = True
    tenant: float = 0.0
    level: float = 0.0
    down: FailureKind | None = None
    wait: float | None = None
    hidden: float | None = None
    at: float = 0.0

    def __post_init__(self) -> None:
        self.level = self.capacity
        self.credit = 1.0

    def advance(self, now: float) -> None:
        level = self.level + (self.refill - self.tenant) * (now - self.at)
        if level < 0:
            level = max(level, min(self.level, 0.0))
        self.level = level if level < self.capacity else self.capacity
        if self.hidden is not None:
            self.credit = min(self.credit + self.hidden * (now - self.at), max(1.0, self.hidden))
        self.at = now

    def set_refill(self, refill: float) -> None:
        self.capacity *= refill / self.refill
        self.level *= refill / self.refill
        self.refill = refill

    def take(self, cost: float) -> bool:
        if self.hidden is not None:
            if self.credit < 1:
                return False
            self.credit -= 1
        if self.level < cost:
            return False
        self.level -= cost
        return True


@dataclass
class Queue:
    """Temporal's task queue, whose limiter is GCRA with a second of burst: measured, and so in its source
    (``simpleLimiter`` of the matching service)."""

    rate: float
    ready: float = 0.0

    def set(self, rate: float, now: float) -> None:
        self.rate = rate
        self.ready = min(self.ready, now + 1 / rate + 1.0) if rate else math.inf

    def hand_out(self, now: float) -> bool:
        if now < self.ready:
            return False
        self.ready = max(now, self.ready + 1.0) - 1.0 + 1 / self.rate
        return True


@dataclass
class Worker:
    """One process: what it has not reported yet. Its ``clock`` is ahead by so much; it asks how the budget stands
    at ``ask_at``. An ``old`` one is of 0.1.0."""

    name: str
    allowance: Allowance
    clock: float = 0.0
    ask_at: float = ASK
    directive_at: float = 0.0
    pace: float = 0.0
    credit: float = 0.0
    stalled: tuple[float, float] = (math.inf, 0.0)
    old: bool = False
    calls: int = 0
    charged: int = 0
    answered: int = 0
    in_flight: int = 0
    spent: float = 0.0
    largest: float = 0.0
    reading: tuple[float, float, float, bool] | None = None
    troubles: dict[str, int] = field(default_factory=dict)
    wait: float | None = None
    reported_at: float = 0.0
    hold_until: float = 0.0
    held: int = 0
    turn: float = 0.0
    waiting: int = 0
    busy: int = 0
    row: Row = field(default_factory=Row)
    tries: int = 0
    away_until: float = 0.0
    active: bool = False
    sent: list[float] = field(default_factory=list)
    told_refill: float = 0.0

    @property
    def machine(self) -> str:
        return self.name.partition("@")[2]

    @property
    def haste(self) -> Haste:
        """As the reporter has it."""
        left, refill = self.reading[1:3] if self.reading else (math.inf, self.told_refill)
        if self.troubles or refill != self.told_refill:
            return Haste.URGENT
        return Haste.SOON if left < refill else Haste.USUAL

    @property
    def news(self) -> bool:
        return bool(self.calls or self.answered or self.troubles or self.held)

    def told(self, now: float) -> None:
        """All of it has been reported."""
        self.sent = []
        self.told_refill = self.reading[2] if self.reading else self.told_refill
        self.calls = self.charged = self.answered = self.held = 0
        self.spent = self.largest = 0.0
        self.reading, self.troubles, self.wait, self.reported_at = None, {}, None, now


@dataclass
class World:
    """Runs until told; ``calls`` are (sent at, cost, whether it was taken). Among those that wait in the queue are
    ``without_quota`` of a model whose calls go back unsent for a minute each time that they are dispatched.

    The processes are on so many ``machines``, whose clocks differ by up to 20 s; the first ``old`` ones are of
    0.1.0. ``cut_off`` says which machine reaches nothing at a time, and its processes stop taking calls as real
    ones do, unless they are not to ``leave``. A process has as many ``slots``; ``lost`` are its calls that were
    not sent, as (at, machine). With ``gates`` the server keeps no rate, and each process its part of it.
    Once in 20 s or so, a process cannot report for up to ``stalls`` seconds."""

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
    first: float = 2.0
    costs: dict[str, float] = field(default_factory=dict)
    without_quota: int = 0
    machines: int = 1
    cut_off: Callable[[str, float], bool] = lambda machine, now: False
    leave: bool = True
    slots: int = 10_000
    old: int = 0
    gates: bool = False
    stalls: float = 0.0

    def __post_init__(self) -> None:
        self.away: list[float] = []
        self.due = self.without_quota
        self.chance = random.Random(self.seed)
        self.now = 0.0
        self.kept = True
        self.queue = Queue(self.first)
        self.budget = Budget("llm-test")
        self.budget.open(Opening(self.limits, self.first, costs=self.costs), self.now)
        self.report_intake = ReportIntake(self.budget)
        self.workers = self._workers(random.Random(self.seed))
        self.gate_chance, self.polling = random.Random(self.seed), self.processes
        for worker in self.workers:
            worker.pace = self.first / self.processes
            worker.credit = self.gate_chance.random()
        self.reports: list[float] = []
        self.lost: list[tuple[float, str]] = []
        self.states: set[str] = set()
        self.calls: list[tuple[float, float, bool]] = []
        self.rates: list[tuple[float, float]] = []
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.retries: deque[float] = deque()
        self.waiting: deque[Report] = deque()
        self.number = 0
        self.in_flight = self.at_gates = 0
        self.news = True
        self.busy_until = 0.0
        self.look, self.look_at = FIRST_LOOK, FIRST_LOOK
        self.unheard, self.ask_at, self.look_for_news_at = False, ASK, 0.0

    def _workers(self, chance: random.Random) -> list[Worker]:
        clocks = [0.0, *(chance.uniform(-20.0, 20.0) for _ in range(self.machines - 1))]
        return [
            Worker(
                f"w{number}@vm{number % self.machines + 1}",
                Allowance(chance.random),
                clocks[number % self.machines],
                ASK * chance.uniform(0.9, 1.1),
                old=number < self.old,
            )
            for number in range(self.processes)
        ]

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        self.number += 1
        heapq.heappush(self.events, (self.now + seconds, self.number, action))

    def run(self, seconds: float) -> None:
        """Look at each tick for what is due. The looks are here: there are a million in a test, and mostly
        nothing is due."""
        end, events = self.now + seconds, self.events
        while self.now < end:
            self.now = now = self.now + TICK
            self.provider.advance(now)
            while events and events[0][0] <= now:
                heapq.heappop(events)[2]()
            if self.gates:
                self._pass_own_gates()
            elif now >= self.queue.ready:
                self._dispatch()
            if self.at_gates:
                self._pass_gates()
            if now >= self.look_for_news_at:
                self._report()
            if self.waiting or self.news or now >= self.ask_at or now >= self.look_at:
                self._keep()

    def order(self, act: Callable[[Budget], None]) -> None:
        """The operator acts, or there is a new key."""
        act(self.budget)
        self.news = True

    def _dispatch(self) -> None:
        while self.in_flight < self.concurrency and self.working(self.now) and (polling := self._polling()):
            if not self.queue.hand_out(self.now):
                break
            worker = self.chance.choice(polling)
            worker.busy += 1
            if self._is_of_a_model_without_quota():
                heapq.heappush(self.away, self.now + AWAY * self.chance.uniform(1.0, 1.1))
                worker.held += 1
                worker.busy -= 1
                continue
            self.in_flight += 1
            if self.budget.held_models:
                worker.waiting += 1
                self.at_gates += 1
                continue
            lag = self.chance.uniform(0.03, 0.2) + max(worker.hold_until - self.now, 0.0)
            self.later(lag, lambda worker=worker: self._send(worker))

    def _polling(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.away_until <= self.now and worker.busy < self.slots]

    def _is_lost(self, worker: Worker, cost: float) -> bool:
        """Whether the call cannot be sent; the process asks for itself then, and stops taking calls."""
        if not self.cut_off(worker.machine, self.now):
            worker.row.end()
            worker.tries = 0
            return False
        self.lost.append((self.now, worker.machine))
        self.retries.append(cost)
        self.in_flight -= 1
        worker.busy -= 1
        worker.troubles[FailureKind.LOST_BEFORE_SENDING] = (
            worker.troubles.get(FailureKind.LOST_BEFORE_SENDING, 0) + 1
        )
        if worker.row.fails(self.now) and self.leave and worker.away_until <= self.now:
            self._leave(worker)
        return True

    def _leave(self, worker: Worker) -> None:
        wait = wait_after(worker.tries)
        worker.tries += 1
        worker.away_until = self.now + wait + 2 * TICK

        def probe() -> None:
            worker.row.end()
            if self.cut_off(worker.machine, self.now):
                self._leave(worker)

        self.later(wait, probe)

    def _pass_gates(self) -> None:
        """While a model has no quota each process's gate keeps its part of the rate."""
        rate = self.budget.rate() / self.processes
        for worker in self.workers:
            while worker.waiting and rate and self.now >= max(worker.turn + 1 / rate, worker.hold_until):
                worker.turn = max(worker.turn + 1 / rate, self.now - max(1.0, 1 / rate))
                worker.waiting -= 1
                self.at_gates -= 1
                self.later(self.chance.uniform(0.03, 0.2), lambda worker=worker: self._send(worker))

    def _pass_own_gates(self) -> None:
        """Where the server keeps no rate each process keeps its part of it, by what the budget told it last."""
        for worker in self.workers:
            if self.kept and self.now >= worker.directive_at:
                age = min(max(self.polling / 10, DIRECTIVE[0]), DIRECTIVE[1])
                worker.directive_at = self.now + age * (1 if worker.directive_at else self.gate_chance.random())
                worker.pace = self.budget.rate() / self.polling
            worker.credit = min(worker.credit + worker.pace * TICK, max(1.0, worker.pace))
            while (
                worker.credit >= 1
                and self.in_flight < self.concurrency
                and self.working(self.now)
                and self.now >= worker.hold_until
            ):
                worker.credit -= 1
                self.in_flight += 1
                self.later(self.gate_chance.uniform(0.0, 0.02), lambda worker=worker: self._send(worker))

    def _is_of_a_model_without_quota(self) -> bool:
        """Whether the next of the queue is; it holds a minute's worth of the others at any time."""
        while self.away and self.away[0] <= self.now:
            heapq.heappop(self.away)
            self.due += 1
        others = 60 * self.provider.refill
        found = self.due > 0 and self.chance.random() < self.due / (self.due + others)
        self.due -= found
        return found

    def _send(self, worker: Worker) -> None:
        provider = self.provider
        cost = self.retries.popleft() if self.retries else self.cost(self.chance)
        worker.calls += 1
        if self._is_lost(worker, cost):
            return
        worker.sent.append(self.now)
        if provider.down is not None:
            worker.busy -= 1
            self.calls.append((self.now, cost, False))
            self.retries.append(cost)
            self.in_flight -= 1
            worker.troubles[provider.down] = worker.troubles.get(provider.down, 0) + 1
            worker.wait = provider.wait
            return
        taken = provider.take(cost)
        self.calls.append((self.now, cost, taken))
        left = max(provider.level, 0.0)
        sent = self.now
        if taken:
            worker.charged += 1
            worker.in_flight += 1
            worker.spent += cost
            worker.largest = max(worker.largest, cost)
            self.later(
                self.chance.lognormvariate(0, 0.15) * self.latency, lambda: self._answered(worker, sent, left)
            )
            return
        worker.troubles[FailureKind.RATE] = worker.troubles.get(FailureKind.RATE, 0) + 1
        wait = max(cost - left, 0.0) / max(provider.refill - provider.tenant, 0.01)
        worker.wait = max(worker.wait or 0.0, wait)
        worker.hold_until = self.now + wait
        self.in_flight -= 1
        worker.busy -= 1
        self.retries.append(cost)
        if provider.headers:
            worker.reading = (sent, left, provider.refill, True)

    def _answered(self, worker: Worker, sent: float, left: float) -> None:
        worker.answered += 1
        worker.in_flight -= 1
        worker.busy -= 1
        self.in_flight -= 1
        if self.provider.headers and not (worker.reading and worker.reading[3]):
            worker.reading = (sent, left, self.provider.refill, False)

    def _report(self) -> None:
        self.look_for_news_at = self.now + NEWS_LOOK
        for worker in self.workers:
            if self.now >= worker.ask_at:
                worker.ask_at = self.now + ASK
                if self.kept and not worker.old:
                    worker.allowance.each_seconds = describe(self.budget).report_seconds
            if self.stalls and self.now > worker.stalled[1]:
                begin = self.now + self.gate_chance.uniform(5.0, 40.0)
                worker.stalled = (begin, begin + self.gate_chance.uniform(0.0, self.stalls))
            if not worker.news or worker.stalled[0] <= self.now <= worker.stalled[1]:
                continue
            if self.unheard and self.now - worker.reported_at < UNHEARD_PAUSE:
                continue
            if worker.allowance.wait(worker.haste, self.now) > 0:
                continue
            worker.allowance.take(self.now)
            self.reports.append(self.now)
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
                troubles=self._troubles(worker),
                held=worker.held,
                sent_at=self.now + worker.clock,
                in_flight=worker.in_flight,
                sent=[] if worker.old else [[self.now - at, 1.0] for at in worker.sent],
            )
            self.later(self.chance.uniform(0.05, self.delay), lambda report=report: self.waiting.append(report))
            worker.told(self.now)

    def _troubles(self, worker: Worker) -> list[Trouble]:
        found = [Trouble(name, count, "", worker.wait, "key") for name, count in worker.troubles.items()]
        return found + ([Trouble(FailureKind.MODEL_QUOTA, 1, "", 86_400.0, model="m")] if worker.held else [])

    def _keep(self) -> None:
        """What the budget's workflow does; nothing while no process keeps it."""
        if self.now >= self.ask_at:
            self.unheard, self.ask_at = not self.kept, self.now + ASK
        if not self.kept:
            return
        while self.waiting:
            self.report_intake.take(self.waiting.popleft(), self.now)
            self.news = True
        if self.now < self.busy_until or not (self.news or self.now >= self.look_at):
            return
        if self.news:
            self.look = FIRST_LOOK
        else:
            self.look = self.look * 2
        if self.now - self.look_at > LATE_SECONDS:
            self.budget.missed(self.now)
        self.news = False
        self.look_at = self.now + self.look if self.look <= LAST_LOOK else math.inf
        self.budget.pass_time(self.now)
        self.states.add(self.budget.breaker.state)
        self._order(self.budget.dispatch_rate())

    def _order(self, wanted: float) -> None:
        self.rates.append((self.now, wanted))
        known = self.queue.rate
        if abs(wanted - known) > 0.03 * known or (wanted == 0) != (known == 0):
            self.busy_until = self.now + 0.1
            self.later(0.1, lambda: self.queue.set(wanted, self.now))

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
