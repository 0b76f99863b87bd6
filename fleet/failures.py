"""What a provider's failure means, independent of how each provider reports it: one row per kind.

The providers' adapters translate status, headers and error codes into a :class:`FailureKind` (see
``fleet.providers.error_mapping``). Code that decides something about a failure (retry, count, send again, park,
slow down, report) reads a trait of its row and does not list kinds itself.
"""

from dataclasses import dataclass
from enum import StrEnum


class FailureKind(StrEnum):
    """The kinds of failure in which a provider call can end."""

    RATE = "rate"
    SLOW_DOWN = "ramp"
    OVERLOAD = "overload"
    OUTAGE = "outage"
    QUOTA_SPENT = "quota_spent"
    QUOTA_UNTIL_RESET = "quota_until_reset"
    MODEL_QUOTA = "model_quota"
    KEY_REJECTED = "key_rejected"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    BAD_REQUEST = "bad_request"
    TOO_LARGE = "too_large"
    CONTEXT_EXCEEDED = "context_exceeded"
    UNUSABLE_EMPTY = "unusable_empty"
    UNUSABLE_BODY = "unusable_body"
    UNUSABLE_REFUSAL = "unusable_refusal"
    UNUSABLE_CUT_OFF = "unusable_cut_off"
    TIMED_OUT = "timed_out"
    LOST_BEFORE_SENDING = "lost_before_sending"
    LOST_AFTER_SENDING = "lost_after_sending"


class Billed(StrEnum):
    """Whether the provider charges for a failed call. All three vendors bill by the usage that an answer reports,
    and their errors report none; where no answer came, one may have been lost.

    Source: Gemini "Billing" ("Am I charged for failed requests?"), OpenAI "Pricing", Anthropic "Pricing".
    """

    NO = "no"
    UNKNOWN = "unknown"
    YES = "yes"


class Concerns(StrEnum):
    """What has to change before such a call succeeds. All but the request and the model are shared with other
    calls."""

    REQUEST = "request"
    MODEL = "model"
    ACCOUNT = "account"
    HOST = "host"
    PROVIDER = "provider"


@dataclass(frozen=True, slots=True)
class FailureTraits:
    """What follows from a kind of failure.

    ``retryable``: the same call may succeed later. ``counts``: it used up one of the call's attempts. ``billed``:
    whether the provider charges for it. ``limit``: it was refused because of a limit; the call itself is valid but
    came too early. ``outage``: a sign that all calls to the provider fail. ``before_sending``: no part of the call
    left this machine. ``remedy``: what a person can do; PROVIDER stands in it for the provider's name.
    """

    concerns: Concerns
    billed: Billed
    remedy: str
    retryable: bool = True
    counts: bool = True
    limit: bool = False
    outage: bool = False
    before_sending: bool = False

    @property
    def parks(self) -> bool:
        """Whether no call of the account succeeds until a person or a reset changes something: the queue is parked
        and its calls wait."""
        return self.concerns is Concerns.ACCOUNT and not self.limit

    @property
    def holds_model(self) -> bool:
        """Whether no call of this model succeeds until then, while calls of the account's other models do."""
        return self.concerns is Concerns.MODEL and self.retryable

    @property
    def works(self) -> bool:
        """Whether the provider itself works: the failure belongs to this request or this model."""
        return self.concerns in (Concerns.REQUEST, Concerns.MODEL)

    @property
    def uses_limit(self) -> bool:
        """Whether the provider may have counted the call against its limits."""
        return self.billed is not Billed.NO or (self.outage and self.concerns is Concerns.PROVIDER)


_WAIT = "nothing to do: the call is made again when the provider allows it"
_RETRY = "nothing to do unless it lasts: look at the provider's status page"
_LOOK = "look at the assistant's prompt and max_tokens, and at the model that it names"


def traits_of(failure_kind: FailureKind) -> FailureTraits:
    """The row of a kind; mypy reports a missing one."""
    match failure_kind:
        case FailureKind.RATE | FailureKind.SLOW_DOWN:
            return FailureTraits(Concerns.ACCOUNT, Billed.NO, _WAIT, counts=False, limit=True)
        case FailureKind.OVERLOAD | FailureKind.OUTAGE:
            return FailureTraits(Concerns.PROVIDER, Billed.NO, _RETRY, outage=True)
        case FailureKind.QUOTA_SPENT:
            remedy = "raise the spending limit or add credit in the provider's console"
            return FailureTraits(Concerns.ACCOUNT, Billed.NO, remedy, counts=False)
        case FailureKind.QUOTA_UNTIL_RESET:
            remedy = "wait until the quota's reset or ask the provider for a larger one"
            return FailureTraits(Concerns.ACCOUNT, Billed.NO, remedy, counts=False)
        case FailureKind.MODEL_QUOTA:
            remedy = (
                "wait for its reset; or raise it, then `fleet resume PROVIDER`; or give its assistants a fallback"
            )
            return FailureTraits(Concerns.MODEL, Billed.NO, remedy, counts=False)
        case FailureKind.KEY_REJECTED:
            remedy = "store a valid API key for this provider in the backend"
            return FailureTraits(Concerns.ACCOUNT, Billed.NO, remedy, counts=False)
        case FailureKind.FORBIDDEN:
            remedy = "let the API key do this in the provider's console, or set a model that it may use"
            return FailureTraits(Concerns.MODEL, Billed.NO, remedy, retryable=False)
        case FailureKind.NOT_FOUND:
            remedy = "set a model that exists for this provider; it may have been retired"
            return FailureTraits(Concerns.MODEL, Billed.NO, remedy, retryable=False)
        case FailureKind.BAD_REQUEST:
            remedy = "correct the assistant's parameters as the provider's message says"
            return FailureTraits(Concerns.REQUEST, Billed.NO, remedy, retryable=False)
        case FailureKind.TOO_LARGE:
            remedy = "shorten the assistant's prompt or what it reads, lower its max_tokens, or raise the limit"
            return FailureTraits(Concerns.REQUEST, Billed.NO, remedy, counts=False)
        case FailureKind.CONTEXT_EXCEEDED:
            remedy = (
                "let the assistant read less (fewer rows or columns of the CSV, fewer inputs), shorten its "
                "prompt, lower its max_tokens, or name a model with a larger context window, for example as its "
                "fallback"
            )
            return FailureTraits(Concerns.REQUEST, Billed.NO, remedy, retryable=False)
        case FailureKind.UNUSABLE_EMPTY:
            return FailureTraits(Concerns.REQUEST, Billed.YES, _LOOK)
        case FailureKind.UNUSABLE_REFUSAL | FailureKind.UNUSABLE_CUT_OFF:
            return FailureTraits(Concerns.REQUEST, Billed.YES, _LOOK, retryable=False)
        case FailureKind.UNUSABLE_BODY:
            remedy = "check the provider's base_url: something else than the API answered"
            return FailureTraits(Concerns.HOST, Billed.UNKNOWN, remedy, outage=True)
        case FailureKind.TIMED_OUT:
            remedy = "raise the provider's timeout_seconds if answers of this size are wanted"
            return FailureTraits(Concerns.PROVIDER, Billed.UNKNOWN, remedy, outage=True)
        case FailureKind.LOST_BEFORE_SENDING:
            remedy = "see that this machine reaches base_url: names, route, proxy, certificates, clock"
            return FailureTraits(Concerns.HOST, Billed.NO, remedy, outage=True, before_sending=True)
        case FailureKind.LOST_AFTER_SENDING:
            return FailureTraits(Concerns.PROVIDER, Billed.UNKNOWN, _RETRY, outage=True)


#: Kinds that are refusals because of a limit: the call waits, and none of them is a failure.
LIMITS = frozenset(failure_kind for failure_kind in FailureKind if traits_of(failure_kind).limit)
