"""What is tried. Limits are a minute, durations in seconds."""

import math
import random
from dataclasses import dataclass, replace
from typing import Literal

Variant = Literal["budgets", "plain"]
FAULTS = ("hang", "429", "500", "401")


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
        return {"openai": "gpt-5", "anthropic": "claude-sonnet-4-5", "gemini": "gemini-2.5-flash"}[self.provider]

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
    """``seconds`` is how long it lasts from the first call on; ``warm_up`` of that is not counted."""

    name: str
    loads: tuple[Load, ...]
    seconds: float = 120.0
    warm_up: float = 20.0
    processes: int = 3
    change: Change | None = None
    settled: float = 30.0
    queued_first: int = 0
    work_seconds: float | None = None
    rest_seconds: float = 20.0
    plain_too: bool = False
    beside: int = 0
    kill: bool = False


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
    """All of them, by letter."""
    with_headers, without = Load("openai", rpm), Load("gemini", rpm)
    both = (replace(with_headers, rpm=rpm / 2), replace(without, rpm=rpm / 2))
    long, short, changed = (70.0, 65.0, 30.0) if quick else (200.0, 100.0, 60.0)
    everyone = tuple(Load(name, rpm / 3) for name in ("openai", "anthropic", "gemini"))
    settled = 15.0 if quick else 30.0
    changing = Scenario("", both, long + 40, settled=settled, plain_too=True)
    return {
        "a": Scenario("a", (with_headers,), seconds=short + 20, plain_too=True),
        "b": Scenario("b", (_token_bound(tpm, 240, sigma),), seconds=long if not quick else 75, plain_too=True),
        "c": replace(changing, name="c", change=Change(changed, limit_share=0.5)),
        "d": replace(changing, name="d", change=Change(changed, tenant_share=0.5)),
        "e": Scenario("e", (with_headers,), seconds=short + 20, queued_first=5_000 if not quick else 2_000),
        "f": Scenario("f", everyone, seconds=12.0 if quick else 60.0, warm_up=10.0),
        "h": Scenario("h", (with_headers,), seconds=40.0, warm_up=0.0, beside=1_000),
        "g": Scenario("g", (with_headers, without), seconds=long, work_seconds=25.0),
    }
