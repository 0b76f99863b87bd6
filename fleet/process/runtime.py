"""The lifecycle of a process that uses Temporal: connect, work, drain.

An unreachable Temporal server is never a reason to exit: a worker waits for it and logs that, since supervisord
gives up a program that fails to start. Bad settings and bad code are a reason: they end the process at once.
"""

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, NoReturn

import uvloop
from loguru import logger
from temporalio.client import Client
from temporalio.runtime import MetricBuffer, MetricBufferDurationFormat, Runtime, TelemetryConfig
from temporalio.service import RPCError
from temporalio.worker import Worker

from fleet.config import PROJECT_ROOT, Settings
from fleet.exit_codes import EXIT_FAILED, EXIT_OK
from fleet.process.lifecycle import Life, run_process, wait_for_event
from fleet.process.liveness import Liveness, Unreachable
from fleet.process.machine_id import identity_on, machine_id
from fleet.process.reachability import Reach
from fleet.process.stop_signals import stop_on_signal
from fleet.process.temporal_connection import connect_patiently

_FIRST_WAIT_SECONDS = 1.0
_AFTER_DRAIN_SECONDS = 10.0
# The liveness thread reads them every second.
_BUFFERED_METRICS = 20_000


@cache
def build_id() -> str:
    """A digest of the fleet's own source files, which distinguishes releases in Temporal's history.

    The SDK's default reads the code of every imported module again, thousands of them if a provider's SDK is
    loaded, and blocks the event loop meanwhile.
    """
    digest = hashlib.sha256()
    for path in sorted(path for room in ("fleet", "workers") for path in (PROJECT_ROOT / room).rglob("*.py")):
        digest.update(str(path.relative_to(PROJECT_ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:32]


def worker_options(settings: Settings) -> dict[str, Any]:
    """The options that all workers have in common.

    The SDK's throttle lets heartbeats through at the configured interval. Eager execution is off, so that no
    activity starts outside a queue's rate limit.
    """
    interval = timedelta(seconds=settings.heartbeat_interval_seconds)
    return {
        "graceful_shutdown_timeout": timedelta(seconds=settings.drain_seconds),
        "max_heartbeat_throttle_interval": interval,
        "default_heartbeat_throttle_interval": interval,
        "disable_eager_activity_execution": True,
        "build_id": build_id(),
    }


@dataclass
class WorkerProcess:
    """One worker process: ``await WorkerProcess(settings, name, liveness, build).run()`` runs it from start to
    end.

    Once connected, ``prepare`` does what must be done before polling (it is repeated after an RPCError), and
    ``build`` creates the workers. The side tasks in ``beside`` run as long as the workers do; when any of them
    ends, the process ends. ``close`` releases what all of them used. ``max_drain_seconds`` bounds the drain of a
    process that has no paid calls in flight. While ``reach`` knows that no call can be sent, nothing is polled;
    the side tasks go on.
    """

    settings: Settings
    name: str
    liveness: Liveness
    build: Callable[[Client], Sequence[Worker]]
    prepare: Callable[[Client], Awaitable[None]] | None = None
    beside: Sequence[Callable[[Client], Coroutine[Any, Any, None]]] = ()
    close: Callable[[], Awaitable[None]] | None = None
    max_drain_seconds: float = math.inf
    reach: Reach | None = None

    async def run(self) -> int:
        """Connect, work until a signal comes, drain. Returns the exit status."""
        stop = asyncio.Event()
        with stop_on_signal(stop):
            try:
                return await self._serve(stop)
            finally:
                if self.close is not None:
                    await self.close()

    async def _serve(self, stop: asyncio.Event) -> int:
        identity = identity_on(machine_id(self.settings.state_dir), self.name)
        client = await connect_patiently(self.settings, identity=identity, stop=stop)
        if client is None:
            return EXIT_OK
        if not await self._prepared(client, stop):
            return EXIT_OK
        others: set[asyncio.Task[Any]] = {
            asyncio.create_task(run(client), name="side task") for run in self.beside
        }
        others.add(asyncio.create_task(stop.wait(), name="stop"))
        try:
            return await self._work(client, stop, others)
        finally:
            for task in others:
                task.cancel()

    async def _work(self, client: Client, stop: asyncio.Event, others: set[asyncio.Task[Any]]) -> int:
        """Poll, except while no call can be sent, until one of the other tasks ends."""
        lost = self.liveness.record.unreachable if self.reach is not None else None
        if lost is not None and (ended := await self._regained(lost, others, at_once=True)):
            return self._left(stop, ended)
        while True:
            status, lost = await self._poll(client, stop, others)
            if lost is None or status != EXIT_OK:
                return status
            if ended := await self._regained(lost, others):
                return self._left(stop, ended)

    async def _poll(
        self, client: Client, stop: asyncio.Event, others: set[asyncio.Task[Any]]
    ) -> tuple[int, Unreachable | None]:
        """Poll until there is a reason to stop, then drain; returns the exit status, and what keeps calls from
        being sent."""
        workers = self.build(client)
        working = {
            asyncio.create_task(worker.run(), name=f"worker of {worker.task_queue}"): worker for worker in workers
        }
        losing = set() if self.reach is None else {asyncio.create_task(self.reach.lost(), name="reach")}
        queues = [worker.task_queue for worker in workers]
        logger.info("{} polls {} on {}", self.name, ", ".join(queues), self.settings.temporal_host)
        self.liveness.serving(queues)
        done, _ = await asyncio.wait({*working, *losing, *others}, return_when=asyncio.FIRST_COMPLETED)
        lost = next((task.result() for task in losing), None) if done == losing else None
        if lost is not None:
            self.liveness.probing(lost)
        else:
            self.liveness.draining()
        for task in losing:
            task.cancel()
        status = EXIT_OK if lost is not None else self._left(stop, done - losing)
        status = max(
            status, await self._drain({task: worker for task, worker in working.items() if task not in done})
        )
        return status, lost

    async def _regained(
        self, lost: Unreachable, others: set[asyncio.Task[Any]], *, at_once: bool = False
    ) -> set[asyncio.Task[Any]]:
        """Wait until calls can be sent; returns those of the other tasks that ended first."""
        assert self.reach is not None
        regaining = asyncio.create_task(
            self.reach.regained(lost, self.liveness.probing, at_once=at_once), name="probes"
        )
        try:
            done, _ = await asyncio.wait({regaining, *others}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            regaining.cancel()
        return done if regaining not in done else done & others or _failed(regaining)

    def _left(self, stop: asyncio.Event, done: Iterable[asyncio.Task[Any]]) -> int:
        return EXIT_OK if stop.is_set() else _ended_by_itself(done)

    async def _prepared(self, client: Client, stop: asyncio.Event) -> bool:
        """Whether everything is ready for polling; False if the stop signal came first."""
        while self.prepare is not None:
            try:
                await self.prepare(client)
            except RPCError as error:
                logger.warning("Temporal does not answer ({}); trying again", error.message)
                if await wait_for_event(stop, _FIRST_WAIT_SECONDS):
                    return False
            else:
                break
        return not stop.is_set()

    async def _drain(self, working: Mapping[asyncio.Task[None], Worker]) -> int:
        """Stop polling, finish running tasks within the bound, log a worker that did not finish."""
        if not working:
            return EXIT_OK
        bound = min(self.settings.drain_seconds, self.max_drain_seconds) + _AFTER_DRAIN_SECONDS
        shutting_down = {asyncio.create_task(worker.shutdown(), name="shutdown") for worker in working.values()}
        _, late = await asyncio.wait(shutting_down, timeout=bound)
        if late and math.isfinite(self.max_drain_seconds):
            logger.warning("{} did not come to rest within {:.0f} s: others go on with its work", self.name, bound)
            return EXIT_OK
        if late:
            logger.error("{} did not come to rest within {:.0f} s: leaving all the same", self.name, bound)
            return EXIT_FAILED
        await asyncio.wait(working, timeout=_AFTER_DRAIN_SECONDS)
        logger.info("{} has drained", self.name)
        return EXIT_OK


def _failed(task: asyncio.Task[Any]) -> set[asyncio.Task[Any]]:
    """A set of the task if it ended with an error; otherwise empty."""
    return {task} if task.exception() is not None else set()


def _ended_by_itself(done: Iterable[asyncio.Task[Any]]) -> int:
    """Log why tasks ended although the worker was not told to stop: it lost its polls, or a side task died. A new
    process is the remedy."""
    for task in done:
        error = task.exception()
        logger.opt(exception=error).error("the {} ended by itself: {}", task.get_name(), error or "no error given")
    return EXIT_FAILED


def run_temporal_process(program: str, life: Life) -> NoReturn:
    """Run a process that uses Temporal; see :func:`fleet.process.lifecycle.run_process`."""
    run_process(program, life, _metrics_of_sdk, uvloop.new_event_loop)


def _metrics_of_sdk() -> MetricBuffer:
    """A buffer that receives the SDK's metrics from now on."""
    buffer = MetricBuffer(_BUFFERED_METRICS, MetricBufferDurationFormat.SECONDS)
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(metrics=buffer)), error_if_already_set=False)
    return buffer
