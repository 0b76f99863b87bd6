"""What follows from a failed attempt: does it count, is it final, and how long to wait. No I/O."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from fleet.attempts import Attempts
from fleet.config import Settings
from fleet.contracts import ErrorRecord
from fleet.errors import AttemptsExhausted, BackendUnavailable, FleetError, ProviderError
from fleet.redaction import redact

# Temporal drops a wait of nothing in silence and falls back to its own backoff.
SHORTEST_WAIT_SECONDS = 0.05
_SPREAD = 0.1
_MOST_DOUBLINGS = 10
_BACK_TO_QUEUE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """``final``: not to be tried again. ``benign``: nothing failed, it was only too early."""

    record: ErrorRecord
    final: bool
    benign: bool
    wait_seconds: float


def is_wait(error: Exception) -> bool:
    """Whether nothing was asked of a provider yet, or it answered that it is too early."""
    if isinstance(error, ProviderError):
        return error.retryable and not error.counts
    return isinstance(error, FleetError) and error.retryable


def judge(
    error: Exception,
    attempts: Attempts,
    settings: Settings,
    *,
    doing: str,
    provider: str | None,
    waited_seconds: float,
    chance: Callable[[], float] = random.random,
) -> Verdict:
    """Count a failure in ``attempts`` and say what follows.

    ``doing`` is what failed, for the message; ``waited_seconds`` the time since it was first scheduled.
    """
    benign = is_wait(error)
    if benign:
        attempts.waits += 1
    else:
        attempts.waits = 0
        attempts.provider_failures += isinstance(error, ProviderError) or not isinstance(error, FleetError)
    final = _final_form(error, attempts, settings, doing, waited_seconds)
    record = ErrorRecord(
        code=_code(final or error),
        message=_message(final or error),
        provider=provider,
        attempts=attempts.made,
        retryable=error.retryable if isinstance(error, FleetError) else True,
    )
    wait = _wait_seconds(error, attempts, settings) * (1 + _SPREAD * chance())
    return Verdict(record, final is not None, benign, wait)


def _final_form(
    error: Exception, attempts: Attempts, settings: Settings, doing: str, waited_seconds: float
) -> FleetError | None:
    """The error that ends it for good; None if it may be tried again."""
    if isinstance(error, FleetError) and not error.retryable:
        return error
    if is_wait(error):
        # A provider's limit is waited for without end; a backend that stays away is not.
        lost_patience = waited_seconds > settings.backend_patience_seconds
        return error if isinstance(error, BackendUnavailable) and lost_patience else None
    if attempts.provider_failures < settings.max_attempts:
        return None
    times = attempts.provider_failures
    if isinstance(error, ProviderError):
        return AttemptsExhausted(
            f"LLM selhalo po {times} pokusech (the LLM failed {times} times). Last: {_message(error)}"
        )
    return AttemptsExhausted(f"{doing} failed {times} times. Last: {_message(error)}")


def _code(error: Exception) -> str:
    return error.code if isinstance(error, FleetError) else "unexpected"


def _message(error: Exception) -> str:
    return redact(str(error) if isinstance(error, FleetError) else f"{type(error).__name__}: {error}")


def _wait_seconds(error: Exception, attempts: Attempts, settings: Settings) -> float:
    """The wait that was asked for, else the backoff. Where the queue itself is shut or slowed until the provider
    is well, the call goes back to it soon."""
    asked = error.wait_seconds if isinstance(error, FleetError) else None
    if isinstance(error, ProviderError) and (error.consequence.parks or error.excused):
        return random.uniform(_BACK_TO_QUEUE_SECONDS / 2, _BACK_TO_QUEUE_SECONDS)
    if asked is None:
        doublings = max((attempts.waits or attempts.provider_failures) - 1, 0)
        growth = settings.backoff_coefficient ** min(doublings, _MOST_DOUBLINGS)
        asked = min(settings.retry_initial_seconds * growth, settings.retry_max_seconds)
    return max(asked, SHORTEST_WAIT_SECONDS)
