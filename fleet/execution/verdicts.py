"""What follows from a failed attempt: does it count, is it final, and how long to wait. No I/O.

Failures of the outage kinds come in quick succession: three of them in three seconds would fail a pipeline for a
short interruption of its provider. So a failure within ``attempt_spacing_seconds`` of the start of a counted one
belongs to the same attempt, and the last attempt also lasts that long before it is final. A call that takes longer
is a separate attempt.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeGuard

from fleet.config import Settings
from fleet.contracts import MODEL_UNUSABLE, ErrorRecord
from fleet.errors import (
    AssignmentRefused,
    AttemptsExhausted,
    BackendUnavailable,
    FleetError,
    HeldBack,
    OutputBroken,
    ProviderError,
)
from fleet.execution.attempts import Attempts
from fleet.failures import Concerns, FailureKind
from fleet.redaction import redact

# Temporal silently ignores a wait of 0 and falls back to its own backoff.
SHORTEST_WAIT_SECONDS = 0.05
_SPREAD = 0.1
_MAX_DOUBLINGS = 10
_BACK_TO_QUEUE_SECONDS = 5.0
# How long a pipeline that answers with an error is asked again: a broken release may be fixed meanwhile.
_REFUSED_SECONDS = 24 * 3600.0
# How often in a row a request must be refused as larger than a limit before that is final. Its size is an
# estimate, so a single refusal may be due to what others sent; a limit that no header reports may be a part of the
# real one.
_TOLD_TOO_LARGE, _UNTOLD_TOO_LARGE = 2, 5


@dataclass(frozen=True, slots=True)
class Verdict:
    """``final``: not to be retried. ``benign``: nothing failed, it was only too early. ``moves``: it is final
    because another model takes the call; its code is ``held_back``, or ``model_unusable`` where this model cannot
    be used."""

    record: ErrorRecord
    final: bool
    benign: bool
    wait_seconds: float
    moves: bool = False


def is_wait(error: Exception) -> TypeGuard[FleetError]:
    """Whether nothing was asked of a provider yet, or the provider answered that it is too early."""
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
    started_at: float,
    took_seconds: float,
    waited_seconds: float,
    patience_seconds: float | None = None,
    chance: Callable[[], float] = random.random,
) -> Verdict:
    """Count a failure in ``attempts`` and say what follows.

    ``doing`` is what failed, for the message; ``started_at`` is when the attempt was started (unix seconds, by the
    server's clock) and ``took_seconds`` how long it took; ``waited_seconds`` is the time since it was first
    scheduled; ``patience_seconds`` is how long it may wait for its call to be sent while another model could take
    it.
    """
    benign = is_wait(error)
    attempts.waits = attempts.waits + 1 if benign else 0
    goes_on = not benign and _count(error, attempts, settings, started_at, took_seconds)
    away = isinstance(error, BackendUnavailable | AssignmentRefused)
    attempts.backend_away_since = (attempts.backend_away_since or started_at) if away else 0.0
    wait = _wait_seconds(error, attempts, settings) * (1 + _SPREAD * chance())
    final = None if goes_on else _final_form(error, attempts, settings, doing, started_at)
    too_late = patience_seconds is not None and waited_seconds + wait > patience_seconds
    moves = too_late and final is None and _goes_to_another(error, attempts)
    unusable = patience_seconds is not None and final is error and _is_unusable(error, attempts)
    record = ErrorRecord(
        code=HeldBack.code if moves else MODEL_UNUSABLE if unusable else _code(final or error),
        message=_message(final or error),
        provider=provider,
        attempts=attempts.made + isinstance(error, OutputBroken),  # its calls were answered, so none has failed
        retryable=error.retryable if isinstance(error, FleetError) else True,
    )
    return Verdict(record, moves or final is not None, benign, wait, moves or unusable)


def _count(
    error: Exception, attempts: Attempts, settings: Settings, started_at: float, took_seconds: float
) -> bool:
    """Count a failure; returns whether its attempt continues, so that nothing is final yet."""
    if not (isinstance(error, ProviderError) and error.traits.outage):
        failed = error.counts if isinstance(error, ProviderError) else not isinstance(error, FleetError)
        attempts.provider_failures += failed
        attempts.outage_at, attempts.outage_tries = 0.0, 0
        return False
    spacing, ended_at = settings.attempt_spacing_seconds, started_at + took_seconds
    attempts.outage_tries += 1
    over = ended_at - attempts.outage_at >= spacing
    if over and (not attempts.outage_at or attempts.provider_failures < settings.max_attempts):
        attempts.provider_failures += 1
        attempts.outage_at = started_at
        over = took_seconds >= spacing
    return not over


def _final_form(
    error: Exception, attempts: Attempts, settings: Settings, doing: str, started_at: float
) -> FleetError | None:
    """The error that ends the activity; None if it may be retried."""
    if isinstance(error, FleetError) and not error.retryable:
        return error
    if _is_too_large(error):
        told = any("ratelimit" in name for name in error.headers)
        return error if attempts.too_large >= (_TOLD_TOO_LARGE if told else _UNTOLD_TOO_LARGE) else None
    if is_wait(error):
        # The wait for a provider's limit has no bound, and neither has the wait for a pipeline that no worker
        # runs.
        away_seconds = started_at - attempts.backend_away_since
        return error if away_seconds > _patience_seconds(error, settings) else None
    if attempts.provider_failures < settings.max_attempts:
        return None
    times = attempts.provider_failures
    if isinstance(error, ProviderError):
        sent = "" if attempts.calls in (0, times) else f"{attempts.calls} calls were sent. "
        return AttemptsExhausted(
            f"LLM selhalo po {times} pokusech (the LLM failed {times} times). {sent}Last: {_message(error)}"
        )
    return AttemptsExhausted(f"{doing} failed {times} times. Last: {_message(error)}")


def _patience_seconds(error: Exception, settings: Settings) -> float:
    if isinstance(error, BackendUnavailable):
        return settings.backend_patience_seconds
    return _REFUSED_SECONDS if isinstance(error, AssignmentRefused) else math.inf


def _is_too_large(error: Exception) -> TypeGuard[ProviderError]:
    return isinstance(error, ProviderError) and error.failure_kind is FailureKind.TOO_LARGE


def _is_too_long(error: Exception) -> TypeGuard[ProviderError]:
    return isinstance(error, ProviderError) and error.failure_kind is FailureKind.CONTEXT_EXCEEDED


def _goes_to_another(error: Exception, attempts: Attempts) -> bool:
    """Whether another model may take the call: this one waits for a limit, and nothing was sent that may be
    paid."""
    limited = isinstance(error, HeldBack) or (isinstance(error, ProviderError) and is_wait(error))
    return limited and not attempts.may_have_sent


def _is_unusable(error: Exception, attempts: Attempts) -> bool:
    """Whether this model cannot be used while another may: it does not exist, not for this key, or is too
    small."""
    of_model = isinstance(error, ProviderError) and error.traits.concerns is Concerns.MODEL
    return (of_model or _is_too_long(error) or _is_too_large(error)) and not attempts.may_have_sent


def _code(error: Exception) -> str:
    if _is_too_long(error):
        return error.failure_kind.value
    return error.code if isinstance(error, FleetError) else "unexpected"


def _message(error: Exception) -> str:
    return redact(str(error) if isinstance(error, FleetError) else f"{type(error).__name__}: {error}")


def _wait_seconds(error: Exception, attempts: Attempts, settings: Settings) -> float:
    """The wait that was asked for, otherwise the backoff. Where the queue itself is parked or slowed until the
    provider is healthy, the call goes back to it soon."""
    asked = error.wait_seconds if isinstance(error, FleetError) else None
    if is_wait(error) and error.before_sending and not isinstance(error, BackendUnavailable):
        # Another machine may be able to send it.
        growth = settings.backoff_coefficient ** min(attempts.waits - 1, _MAX_DOUBLINGS)
        return min(settings.retry_initial_seconds / 2 * growth, _BACK_TO_QUEUE_SECONDS)
    if isinstance(error, ProviderError) and (error.traits.parks or error.excused):
        return random.uniform(_BACK_TO_QUEUE_SECONDS / 2, _BACK_TO_QUEUE_SECONDS)
    if _is_too_large(error):
        return settings.retry_max_seconds  # a limit per minute is full again by then
    if asked is None:
        doublings = max((attempts.waits or attempts.outage_tries or attempts.provider_failures) - 1, 0)
        growth = settings.backoff_coefficient ** min(doublings, _MAX_DOUBLINGS)
        asked = min(settings.retry_initial_seconds * growth, settings.retry_max_seconds)
        if attempts.outage_tries and settings.attempt_spacing_seconds:
            # So that an attempt of several calls notices soon enough that the provider has recovered.
            asked = min(asked, max(settings.attempt_spacing_seconds / 2, settings.retry_initial_seconds))
    # Bounded whatever the provider asked for: by then an operator or another process may have changed the
    # situation.
    return min(max(asked, SHORTEST_WAIT_SECONDS), settings.retry_max_seconds)
