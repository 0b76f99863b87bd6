"""Keeps queues full to the end of a run, however fast their calls are answered or fail."""

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from bench.limits.bench_fleet import ASSISTANTS, Stage
from bench.limits.scenarios import Load

LOOK_SECONDS = 0.5
#: A pipeline's calls are in their queue that long after its start.
STARTING_SECONDS = 2.0
#: A load is given so many further calls at most.
_MAX_CALLS = 20_000


class Feeder:
    """While the block runs, pipelines are started whenever fewer than ``wanted`` calls wait in a load's queue."""

    def __init__(self, stage: Stage, loads: Sequence[Load], wanted: int) -> None:
        self._stage = stage
        self._loads = loads
        self._wanted = wanted
        self._over = threading.Event()
        self._seen: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
        self._thread = ThreadPoolExecutor(1)
        self._feeding: Future[None]

    def __enter__(self) -> Self:
        self._feeding = self._thread.submit(lambda: asyncio.run(self._feed_all()))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.shutdown()
        if kind is None:
            self._feeding.result()  # a queue that could not be fed is no measurement

    async def _feed_all(self) -> None:
        await asyncio.gather(*(self._feed(load) for load in self._loads))

    async def _feed(self, load: Load) -> None:
        client, left, fed_at = await self._stage.client(), _MAX_CALLS, 0.0
        while not self._over.is_set():
            waiting = await self._stage.backlog(client, load.provider)
            self._seen[load.provider].append((time.time(), waiting))
            if waiting < self._wanted and left > 0 and time.time() - fed_at > STARTING_SECONDS:
                count = min(-(-self._wanted // ASSISTANTS) * ASSISTANTS, left)
                await self._stage.start_calls(load, count)
                left, fed_at = left - count, time.time()
            await asyncio.sleep(LOOK_SECONDS)

    def least(self, provider: str, begin: float, end: float) -> int | None:
        """How many calls waited in a provider's queue when they were fewest; None if nobody looked."""
        return min((waiting for at, waiting in self._seen[provider] if begin <= at <= end), default=None)
