"""Models of one process's queue that have no quota for a while: their calls go back unsent, others pass."""

import time
from collections.abc import Callable

from fleet.budgets.law.breaker import RESET_UNKNOWN_SECONDS


class HeldModels:
    """The held models, each with the moment at which its quota comes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}

    def __bool__(self) -> bool:
        return any(until > self._clock() for until in self._until.values())

    def hold(self, model: str, wait_seconds: float | None) -> None:
        """The provider refused the model's call: it has no quota for ``wait_seconds``, None: for an unknown
        time."""
        self._until[model] = self._clock() + (RESET_UNKNOWN_SECONDS if wait_seconds is None else wait_seconds)

    def wait_for(self, model: str) -> float | None:
        """Seconds until the model may be tried again; None: it may be tried now."""
        left = self._until.get(model, 0.0) - self._clock()
        if left > 0:
            return left
        self._until.pop(model, None)
        return None

    def release(self) -> None:
        """Drop all holds, which are no longer valid."""
        self._until.clear()
