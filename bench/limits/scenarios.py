"""What is tried. Limits are a minute, durations in seconds."""

import math
import random
from dataclasses import dataclass, replace
from typing import Literal

Variant = Literal["budgets", "plain"]
FAULTS = ("hang", "429", "500", "401")
#: A provider like OpenAI, whose queue has a rate that nobody but the benchmark sets.
BARE = "bare"


@dataclass(frozen=True)
class Load:
    """One provider's part: its limit, and the sizes of its calls in tokens (None: small ones)."""

    provider: str
    rpm: float | None = 600.0
    tpm: float | None = None
    median_tokens: float | None = None
    largest_tokens: float = 0.0
    sigma: float = 1.5

    @property
    def model(self) -> str:
        """A model of that provider."""
        known = {"anthropic": "claude-sonnet-4-6", "gemini": "gemini-3.5-flash-lite"}
        return known.get(self.provider, "gpt-5")

    @property
    def per_second(self) -> float:
        """What the limit that binds gives back a second, in calls or tokens."""
        return ((self.tpm if self.median_tokens else self.rpm) or 0.0) / 60

    @property
    def binding(self) -> str:
        """The simulator's name of the bucket that binds."""
        return "input_tokens" if self.median_tokens else "requests"

    def sizes(self, count: int, seed: int) -> list[int]:
        """What the calls cost, in tokens."""
        chance = random.Random(seed)
        if self.median_tokens is None:
            return [120] * count
        drawn = (chance.lognormvariate(math.log(self.median_tokens), self.sigma) for _ in range(count))
        return [max(int(min(size, self.largest_tokens)), 80) for size in drawn]


@dataclass(frozen=True)
class Change:
    """What happens ``after`` the first call: the limit's share that is left, or what another customer takes."""

    after: float
    limit_share: float | None = None
    tenant_share: float | None = None


@dataclass(frozen=True)
class Scenario:
    """``seconds`` is how long it lasts from the first call on; ``warm_up`` of that is not counted, or, where
    something changes, what comes before ``settled`` seconds after the change. Of f it is the length of each
    stretch, of h and i of each half; ``server`` lasts as long as its ``rounds`` of ``batch`` calls do. Plain
    workers do the same for ``plain_seconds``, where they do. Each of ``machines`` has ``processes`` a provider;
    ``approximate``: the Temporal server keeps no rate."""

    name: str
    loads: tuple[Load, ...]
    seconds: float = 120.0
    warm_up: float = 20.0
    processes: int = 3
    concurrency: int = 24
    change: Change | None = None
    settled: float = 30.0
    queued_first: int = 0
    work_seconds: float = 25.0
    rest_seconds: float = 20.0
    plain_seconds: float | None = None
    beside: int = 0
    rounds: int = 0
    batch: int = 0
    latency: float = 0.7
    completion_seconds: float = 240.0
    kill: bool = False
    machines: int = 1
    approximate: bool = False
    quick: bool = False


def _token_bound(tpm: float, calls_a_minute: float, sigma: float) -> Load:
    """Sizes log-normal up to a tenth of a minute, with a median that makes for so many calls a minute."""
    largest, wanted = tpm / 10, tpm / calls_a_minute
    low, high = 1.0, largest
    for _ in range(60):
        median = math.sqrt(low * high)
        chance = random.Random(7)
        drawn = [min(chance.lognormvariate(math.log(median), sigma), largest) for _ in range(4000)]
        low, high = (median, high) if sum(drawn) / len(drawn) < wanted else (low, median)
    return Load("openai", rpm=10_000, tpm=tpm, median_tokens=median, largest_tokens=largest, sigma=sigma)


def scenarios(rpm: float, tpm: float, sigma: float, *, quick: bool) -> dict[str, Scenario]:
    """All of them, by name."""
    with_headers, without = Load("openai", rpm), Load("gemini", rpm)
    both = (replace(with_headers, rpm=rpm / 2), replace(without, rpm=rpm / 2))
    everyone = tuple(Load(name, rpm / 3) for name in ("openai", "anthropic", "gemini"))
    # Far above what two cores can do.
    unlimited = (Load("openai", rpm=60_000), Load(BARE, rpm=60_000))
    tokens = _token_bound(tpm, 240, sigma)
    halved, taken = Change(40, limit_share=0.5), Change(40, tenant_share=0.5)
    full = [
        Scenario("a", (with_headers,), plain_seconds=70),
        Scenario("b", (tokens,), seconds=220, plain_seconds=70),
        Scenario("c", both, seconds=190, change=halved, plain_seconds=120),
        Scenario("d", both, seconds=190, change=taken, plain_seconds=120),
        Scenario("e", (with_headers,), queued_first=5_000),
        Scenario("f", everyone, seconds=60),
        Scenario("g", (with_headers, without), seconds=180),
        Scenario("h", (with_headers,), seconds=60, warm_up=15, beside=1_000),
        Scenario("i", (without,), seconds=90, beside=600),
        Scenario("server", unlimited, latency=0.1, rounds=6, batch=500),
    ]
    chosen = [_quick(scenario) for scenario in full] if quick else full
    return {scenario.name: scenario for scenario in chosen}


def _quick(scenario: Scenario) -> Scenario:
    """Under three minutes with its fleets' starts and ends: shorter stretches, so that single calls show."""
    seconds = {"a": 45, "b": 50, "c": 50, "d": 50, "e": 50, "f": 8, "g": 75, "h": 20, "i": 20}
    length = seconds.get(scenario.name, scenario.seconds)
    return replace(
        scenario,
        warm_up=10 if scenario.name in ("f", "h") else scenario.warm_up,
        seconds=length,
        plain_seconds=scenario.plain_seconds and length,
        change=scenario.change and replace(scenario.change, after=15),
        settled=15,
        queued_first=min(scenario.queued_first, 1_500),
        rounds=min(scenario.rounds, 3),
        batch=min(scenario.batch, 200),
        beside=min(scenario.beside, 400),
        work_seconds=15,
        rest_seconds=10,
        completion_seconds=45,
        quick=True,
    )
