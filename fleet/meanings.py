"""What a provider's error means, apart from how each provider says it.

The providers' adapters translate status, headers and error codes into one of these (see
``fleet.providers.translation``); everything that decides (retry, count, park, report) looks only at
the meaning.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Paid = Literal["paid", "not_paid", "unknown"]


class Meaning(StrEnum):
    """The kinds of trouble that a provider call can end in."""

    RATE = "rate"
    RAMP = "ramp"
    OVERLOAD = "overload"
    OUTAGE = "outage"
    QUOTA_SPENT = "quota_spent"
    QUOTA_UNTIL_RESET = "quota_until_reset"
    KEY_REJECTED = "key_rejected"
    NOT_FOUND = "not_found"
    BAD_REQUEST = "bad_request"
    UNUSABLE_EMPTY = "unusable_empty"
    UNUSABLE_BODY = "unusable_body"
    UNUSABLE_REFUSAL = "unusable_refusal"
    UNUSABLE_CUT_OFF = "unusable_cut_off"
    TIMED_OUT = "timed_out"
    LOST_BEFORE_SENDING = "lost_before_sending"
    LOST_AFTER_SENDING = "lost_after_sending"


#: No complete answer came, and nobody knows whether the provider finished one and charges for it.
UNANSWERED = frozenset({Meaning.TIMED_OUT, Meaning.LOST_AFTER_SENDING})


@dataclass(frozen=True, slots=True)
class Consequence:
    """What follows from a meaning.

    ``retryable``: the same call may succeed later. ``counts``: it used up one of the provider's attempts.
    ``paid``: whether the provider charges for the call. ``parks``: no call to this provider can succeed
    until a person or a reset changes something; its queue is shut and its calls wait. ``remedy``: what a
    person can do.
    """

    retryable: bool
    counts: bool
    paid: Paid
    parks: bool
    remedy: str


_WAIT = "nothing to do: the call is made again when the provider allows it"
_RETRY = "nothing to do unless it lasts: look at the provider's status page"
_LOOK = "look at the assistant's prompt and max_tokens, and at the model that it names"

CONSEQUENCES: dict[Meaning, Consequence] = {
    Meaning.RATE: Consequence(True, False, "not_paid", False, _WAIT),
    Meaning.RAMP: Consequence(True, False, "not_paid", False, _WAIT),
    Meaning.OVERLOAD: Consequence(True, True, "not_paid", False, _RETRY),
    Meaning.OUTAGE: Consequence(True, True, "unknown", False, _RETRY),
    Meaning.QUOTA_SPENT: Consequence(
        True, False, "not_paid", True, "raise the spending limit or add credit in the provider's console"
    ),
    Meaning.QUOTA_UNTIL_RESET: Consequence(
        True, False, "not_paid", True, "wait until the quota's reset or ask the provider for a larger one"
    ),
    Meaning.KEY_REJECTED: Consequence(
        True, False, "not_paid", True, "store a valid API key for this provider in the backend"
    ),
    Meaning.NOT_FOUND: Consequence(
        False, True, "not_paid", False, "set a model that exists for this provider; it may have been retired"
    ),
    Meaning.BAD_REQUEST: Consequence(
        False, True, "not_paid", False, "correct the assistant's parameters as the provider's message says"
    ),
    Meaning.UNUSABLE_EMPTY: Consequence(True, True, "paid", False, _LOOK),
    Meaning.UNUSABLE_BODY: Consequence(
        True, True, "unknown", False, "check the provider's base_url: something else than the API answered"
    ),
    Meaning.UNUSABLE_REFUSAL: Consequence(False, True, "paid", False, _LOOK),
    Meaning.UNUSABLE_CUT_OFF: Consequence(False, True, "paid", False, _LOOK),
    Meaning.TIMED_OUT: Consequence(
        True,
        True,
        "unknown",
        False,
        "raise the provider's timeout_seconds if answers of this size are wanted",
    ),
    Meaning.LOST_BEFORE_SENDING: Consequence(
        True, True, "not_paid", False, "check that this machine reaches the provider's base_url"
    ),
    Meaning.LOST_AFTER_SENDING: Consequence(True, True, "unknown", False, _RETRY),
}
