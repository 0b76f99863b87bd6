"""How long a call takes: a median with a spread, and a time for every token that is written."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Latency:
    """seconds = ``median_seconds`` · lognormal(``sigma``) + output tokens · ``seconds_per_output_token``."""

    median_seconds: float = 0.6
    sigma: float = 0.15
    seconds_per_output_token: float = 0.0007

    def seconds(self, output_tokens: int, chance: random.Random) -> float:
        """Duration of one call."""
        if self.median_seconds <= 0:
            return output_tokens * self.seconds_per_output_token
        thinking = self.median_seconds * math.exp(chance.gauss(0.0, self.sigma))
        return thinking + output_tokens * self.seconds_per_output_token

    def changed(self, values: Mapping[str, Any]) -> "Latency":
        """These settings with some replaced.

        Raises:
            ValueError: a value is no number of at least 0.
        """
        merged = {name: getattr(self, name) for name in ("median_seconds", "sigma", "seconds_per_output_token")}
        for name in merged.keys() & values.keys():
            merged[name] = number(name, values[name])
        return Latency(**merged)


def number(name: str, value: Any) -> float:
    """``value`` if it is a number of at least 0.

    Raises:
        ValueError: it is not; the message names it.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a number of at least 0, not {value!r}")
    return float(value)
