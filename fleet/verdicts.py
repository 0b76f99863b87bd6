"""What follows from a failed attempt: does it count, is it final, and how long to wait. No I/O."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from fleet.attempts import Attempts
from fleet.config import Settings
from fleet.contracts import ErrorRecord
from fleet.errors import AttemptsExhausted, BackendUnavailable, FleetError, HeldBack, ProviderError
from fleet.redaction import redact

# Temporal drops a wait of nothing in silence and falls back to its own backoff.
SHORTEST_WAIT_SECONDS = 0.05
_SPREAD = 0.1
_MOST_DOUBLINGS = 10
_BACK_TO_QUEUE_SECONDS = 5.0
# A call is back in its queue at least so often, since an operator or another process may know better by then.
_LONGEST_AWAY_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """``final``: not to be tried again. ``benign``: nothing failed, it was only too early. ``moves``: it is final
    since another provider takes the call, and its code is ``held_back``."""

    record: ErrorRecord
    final: bool
    benign: bool
    wait_seconds: float
    moves: bool = False


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
    started_at: float,
    waited_seconds: float,
    patience_seconds: float | None = None,
    chance: Callable[[], float] = random.random,
) -> Verdict:
    """Count a failure in ``attempts`` and say what follows.

    ``doing`` is what failed, for the message; ``started_at`` when the attempt was started (unix seconds, by the
    server's clock); ``waited_seconds`` the time since it was first scheduled; ``patience_seconds`` how long it may
    wait for its call to be sent while another provider could take it.
    """
    benign = is_wait(error)
    if benign:
        attempts.waits += 1
    else:
        attempts.waits = 0
        attempts.provider_failures += isinstance(error, ProviderError) or not isinstance(error, FleetError)
    away = isinstance(error, BackendUnavailable)
    attempts.backend_away_since = (attempts.backend_away_since or started_at) if away else 0.0
    wait = _wait_seconds(error, attempts, settings) * (1 + _SPREAD * chance())
    final = _final_form(error, attempts, settings, doing, started_at)
    too_late = patience_seconds is not None and waited_seconds + wait > patience_seconds
    moves = too_late and final is None and _goes_to_another(error, attempts)
    record = ErrorRecord(
        code=HeldBack.code if moves else _code(final or error),
        message=_message(final or error),
        provider=provider,
        attempts=attempts.made,
        retryable=error.retryable if isinstance(error, FleetError) else True,
    )
    return Verdict(record, moves or final is not None, benign, wait, moves)


def _final_form(
    error: Exception, attempts: Attempts, settings: Settings, doing: str, started_at: float
) -> FleetError | None:
    """The error that ends it for good; None if it may be tried again."""
    if isinstance(error, FleetError) and not error.retryable:
        return error
    if is_wait(error):
        # A provider's limit is waited for without end; a backend that stays away is not.
        away_seconds = started_at - attempts.backend_away_since
        lost_patience = away_seconds > settings.backend_patience_seconds
        return error if isinstance(error, BackendUnavailable) and lost_patience else None
    if attempts.provider_failures < settings.max_attempts:
        return None
    times = attempts.provider_failures
    if isinstance(error, ProviderError):
        return AttemptsExhausted(
            f"LLM selhalo po {times} pokusech (the LLM failed {times} times). Last: {_message(error)}"
        )
    return AttemptsExhausted(f"{doing} failed {times} times. Last: {_message(error)}")


def _goes_to_another(error: Exception, attempts: Attempts) -> bool:
    """Whether another provider may take the call: this one's limits have it wait, and nothing of it was sent that
    may be paid."""
    limited = isinstance(error, HeldBack) or (isinstance(error, ProviderError) and is_wait(error))
    return limited and not attempts.may_have_sent


def _code(error: Exception) -> str:
    return error.code if isinstance(error, FleetError) else "unexpected"


def _message(error: Exception) -> str:
    return redact(str(error) if isinstance(error, FleetError) else f"{type(error).__name__}: {error}")


def _wait_seconds(error: Exception, attempts: Attempts, settings: Settings) -> float:
    """The wait that was asked for, else the backoff. Where the queue itself is shut or slowed until the provider
    is well, the call goes back to it soon."""
    asked = error.wait_seconds if isinstance(error, FleetError) else None
    if isinstance(error, ProviderError) and (error.traits.parks or error.excused):
        return random.uniform(_BACK_TO_QUEUE_SECONDS / 2, _BACK_TO_QUEUE_SECONDS)
    if asked is None:
        doublings = max((attempts.waits or attempts.provider_failures) - 1, 0)
        growth = settings.backoff_coefficient ** min(doublings, _MOST_DOUBLINGS)
        asked = min(settings.retry_initial_seconds * growth, settings.retry_max_seconds)
    return min(max(asked, SHORTEST_WAIT_SECONDS), _LONGEST_AWAY_SECONDS)
