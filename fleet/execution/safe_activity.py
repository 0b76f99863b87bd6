"""What every activity of the fleet has in common: :func:`safe_activity`.

It writes the START, SUCCESS and ERROR markers, heartbeats, keeps the counts of
:mod:`fleet.execution.attempts`, and turns every failure into one standard form: an ``ApplicationError`` whose type
is the error's code and whose first detail is an :class:`~fleet.contracts.ErrorRecord`; where an assistant has
failed for good, the second is a :class:`~fleet.contracts.FailedCalls`. Only Temporal retries;
:mod:`fleet.execution.verdicts` says whether and when it may.
"""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from loguru import logger
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from fleet.config import Settings
from fleet.contracts import AssistantCall
from fleet.errors import HeldBack, WorkerLost
from fleet.execution.attempts import Attempts, seconds_used
from fleet.execution.failed_calls import failed_calls
from fleet.execution.verdicts import SHORTEST_WAIT_SECONDS, judge
from fleet.process.machine_id import machine_name
from fleet.process.metrics import Metrics

#: A first attempt that ends sooner is not worth a heartbeat.
_QUICK_SECONDS = 2.0


class HasSettings(Protocol):
    """A class of activities."""

    settings: Settings
    metrics: Metrics

    async def place(self) -> str:
        """The name of the journal for its calls, empty where it makes none."""
        ...

    def holding(self) -> AbstractAsyncContextManager[None]:
        """Let a surviving process report the running task to Temporal if this process dies within the block."""
        ...

    def ended(self, error: Exception | None) -> None:
        """An attempt ended: with that error, or successfully where it is None."""
        ...


Self = TypeVar("Self", bound=HasSettings)
Argument = TypeVar("Argument")
Result = TypeVar("Result")


def safe_activity(
    function: Callable[[Self, Argument], Awaitable[Result]],
) -> Callable[[Self, Argument], Awaitable[Result]]:
    """Wrap an activity method of one argument; put it below ``@activity.defn``."""

    @functools.wraps(function)
    async def wrapper(self: Self, argument: Argument) -> Result:
        info = activity.info()
        before = argument.before if isinstance(argument, AssistantCall) else None
        attempts = Attempts.resume(info.heartbeat_details, info.attempt, before)
        attempts.make_current()
        with logger.contextualize(**_context(argument)), _measured(self.metrics, info.activity_type):
            logger.info("🚀 ACTIVITY START: {}", info.activity_type)
            try:
                # This comes first: if the process dies before it, the task waits for the heartbeat timeout.
                async with self.holding():
                    attempts.at, attempts.machine = await self.place(), machine_name(self.settings.state_dir)
                    with _beating(attempts, self.settings.heartbeat_interval_seconds):
                        _refuse_after_losses(attempts, self.settings)
                        result = await function(self, argument)
            except asyncio.CancelledError:
                raise _cancelled(attempts) from None
            except Exception as error:
                self.ended(error)
                # Without its cause: a vendor's exception may quote text that must not be stored in the history.
                raise _failed(error, attempts, argument, self.settings) from None
            self.ended(None)
            logger.info("✅ ACTIVITY SUCCESS: {}", info.activity_type)
            return result

    return wrapper


@contextmanager
def _measured(metrics: Metrics, activity_type: str) -> Iterator[None]:
    """Count the attempt that runs in the block."""
    began, outcome = time.monotonic(), "success"
    try:
        yield
    except ApplicationError as error:
        benign = error.category is ApplicationErrorCategory.BENIGN
        outcome = "wait" if benign and (error.type == HeldBack.code or not error.non_retryable) else "error"
        raise
    except BaseException:
        outcome = "cancelled"
        raise
    finally:
        metrics.activity_ended(activity_type, outcome, time.monotonic() - began)


def _context(argument: object) -> dict[str, str]:
    context = {"workflow_id": activity.info().workflow_id or ""}
    if isinstance(argument, AssistantCall):
        context |= {"assistant": argument.name, "provider": argument.provider}
    return context


@contextmanager
def _beating(attempts: Attempts, interval_seconds: float) -> Iterator[None]:
    """Heartbeat at every interval until the block ends. A first attempt begins a moment later than others: one
    that is over by then costs the server no heartbeat, and of one that is lost by then the next attempt assumes
    the worst (:attr:`~fleet.execution.attempts.Attempts.untold`)."""
    loop = asyncio.get_running_loop()
    due: asyncio.TimerHandle

    def beat() -> None:
        nonlocal due
        due = loop.call_later(interval_seconds, beat)
        attempts.beat()

    if activity.info().attempt == 1:
        due = loop.call_later(min(_QUICK_SECONDS, interval_seconds), beat)
    else:
        beat()  # the details that the server has are an earlier attempt's
    try:
        yield
    finally:
        due.cancel()


def _refuse_after_losses(attempts: Attempts, settings: Settings) -> None:
    if attempts.lost_workers >= settings.max_lost_workers:
        raise WorkerLost(
            f"worker lost: {attempts.lost_workers} worker processes died under this call. Remedy: look into "
            "the workers' logs and the kernel's (out of memory?), then run the pipeline again"
        )


def _cancelled(attempts: Attempts) -> BaseException:
    """What a cancelled activity raises: a retry where the worker shuts down, otherwise a cancellation."""
    name, details = activity.info().activity_type, activity.cancellation_details()
    if details is None or not details.worker_shutdown:
        logger.warning("⏹ ACTIVITY CANCELLED: {}", name)
        return asyncio.CancelledError()
    attempts.cut_off()
    logger.warning("⏹ ACTIVITY CUT OFF: {}: this worker's drain time is over; another one takes over", name)
    return ApplicationError(
        "cut off: the worker's drain time was over",
        type="cut_off",
        category=ApplicationErrorCategory.BENIGN,
        next_retry_delay=timedelta(seconds=SHORTEST_WAIT_SECONDS),
    )


def _failed(error: Exception, attempts: Attempts, argument: object, settings: Settings) -> ApplicationError:
    """Count the failure, log it, and return the error that says to Temporal whether and when to retry."""
    info = activity.info()
    verdict = judge(
        error,
        attempts,
        settings,
        doing=info.activity_type,
        provider=argument.provider if isinstance(argument, AssistantCall) else None,
        started_at=info.started_time.timestamp(),
        took_seconds=seconds_used(),
        waited_seconds=(info.started_time - info.scheduled_time).total_seconds(),
        patience_seconds=argument.give_up_after_seconds if isinstance(argument, AssistantCall) else None,
    )
    attempts.end()
    record = verdict.record
    if verdict.moves:
        logger.warning("⏭ ACTIVITY HANDED ON: {}: {}", info.activity_type, record.message)
    elif verdict.benign and not verdict.final:
        logger.warning(
            "⏳ ACTIVITY WAITS {:.1f}s: {}: {}", verdict.wait_seconds, info.activity_type, record.message
        )
    else:
        logger.opt(exception=error).error("❌ ACTIVITY ERROR: {}: {}", info.activity_type, record.message)
    details: list[Any] = [record]
    if verdict.final and isinstance(argument, AssistantCall):
        details.append(failed_calls(error, attempts))
    return ApplicationError(
        record.message,
        *details,
        type=record.code,
        non_retryable=verdict.final,
        category=ApplicationErrorCategory.BENIGN if verdict.benign else ApplicationErrorCategory.UNSPECIFIED,
        next_retry_delay=None if verdict.final else timedelta(seconds=verdict.wait_seconds),
    )
