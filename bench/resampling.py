"""How far a statistic of repeated rounds could lie elsewhere by chance."""

import random
from collections.abc import Callable, Sequence

RESAMPLES = 10_000


def interval_95(rounds: int, statistic: Callable[[Sequence[int]], float]) -> tuple[float, float]:
    """Where ``statistic``, of the numbers of the drawn rounds, lies in 95 % of the resamples (bootstrap)."""
    chance, numbers = random.Random(1), range(rounds)
    found = sorted(statistic([chance.choice(numbers) for _ in numbers]) for _ in range(RESAMPLES))
    return found[int(RESAMPLES * 0.025)], found[int(RESAMPLES * 0.975)]
