"""Detects models with different limits that share a queue, which one budget cannot serve properly."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from loguru import logger

from fleet.budgets.worker.limit_headers import HeaderReading
from fleet.contracts import Limited

_UNLIKE = 1.5
# When a limit changes, calls that were in flight also make old and new values alternate for a moment.
_LASTING_SECONDS = 60.0


@dataclass(slots=True)
class _Turn:
    """The last model that reported a limit, and since when models have reported different values in turn."""

    model: str
    refill: float
    since: float | None = None


class Mixing:
    """What the answers of one queue's models report about its limits; warns once if these differ too much."""

    def __init__(self, queue: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._queue = queue
        self._clock = clock
        self._turns: dict[Limited, _Turn] = {}
        self._warned = False

    def heard(self, model: str, readings: Iterable[HeaderReading]) -> None:
        """An answer of that model reported these limits."""
        for reading in readings:
            turn = self._turns.setdefault(reading.what, _Turn(model, reading.refill))
            if turn.model != model:
                self._compare(turn, model, reading)
                turn.model = model
            turn.refill = reading.refill

    def _compare(self, turn: _Turn, model: str, reading: HeaderReading) -> None:
        small, large = sorted((turn.refill, reading.refill))
        if large < _UNLIKE * small:
            turn.since = None
            return
        now = self._clock()
        turn.since = now if turn.since is None else turn.since
        if now - turn.since < _LASTING_SECONDS or self._warned:
            return
        self._warned = True
        logger.warning(
            "{} serves models of different limits: {:,.0f} {} a minute for {} and {:,.0f} for {}; its budget goes "
            "by whichever it heard last. Remedy: give one of them a section under the provider's `models` in "
            "fleet.toml with its limits; it then has a queue and a budget of its own",
            self._queue,
            turn.refill * 60,
            reading.what.replace("_", " "),
            turn.model,
            reading.refill * 60,
            model,
        )
