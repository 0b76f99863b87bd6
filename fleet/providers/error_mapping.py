"""The one table of what every provider's errors mean.

By status, error code and header, never by the wording of a message. Sources: the providers' error pages
(OpenAI "Error codes", Anthropic "Errors" and "Rate limits", Gemini "Troubleshooting", "Rate limits",
``google.rpc.QuotaFailure`` and ``google.api.ErrorReason``). The adapters take a vendor's exception apart into
status, headers and body and hand these over; what an exception class is called matters to nobody else.
"""

import json
from collections.abc import Mapping
from typing import Any

from fleet.config import Kind
from fleet.errors import ProviderError
from fleet.failures import Meaning
from fleet.providers.registry import spec_of
from fleet.providers.response_bodies import details_of, error_of
from fleet.providers.retry_after import requested_wait
from fleet.providers.spec import VendorSpec
from fleet.redaction import redact

_LONGEST_DETAIL = 300

_BY_STATUS: dict[int, Meaning] = {
    401: Meaning.KEY_REJECTED,
    402: Meaning.QUOTA_SPENT,
    403: Meaning.FORBIDDEN,
    404: Meaning.NOT_FOUND,
    408: Meaning.OUTAGE,
    409: Meaning.OUTAGE,
    429: Meaning.RATE,
    529: Meaning.OVERLOAD,
}

#: Transport exceptions by class name: httpx, httpx2 and requests agree on these.
_TRANSPORT: dict[str, tuple[Meaning, str]] = {
    "ConnectError": (Meaning.LOST_BEFORE_SENDING, "no connection could be made"),
    "ConnectTimeout": (Meaning.LOST_BEFORE_SENDING, "no connection could be made in time"),
    "NewConnectionError": (Meaning.LOST_BEFORE_SENDING, "no connection could be made"),
    "PoolTimeout": (Meaning.LOST_BEFORE_SENDING, "no connection was free in time"),
    "ProxyError": (Meaning.LOST_BEFORE_SENDING, "the proxy refused the connection"),
    "SSLCertVerificationError": (Meaning.LOST_BEFORE_SENDING, "the server's certificate was not accepted"),
    "UnsupportedProtocol": (Meaning.LOST_BEFORE_SENDING, "base_url is not an http(s) address"),
    "ReadTimeout": (Meaning.TIMED_OUT, "no answer came in time"),
    "WriteTimeout": (Meaning.TIMED_OUT, "the request could not be sent in time"),
    "ReadTimeoutError": (Meaning.TIMED_OUT, "no answer came in time"),
}


def _codes(error: Mapping[str, Any]) -> list[str]:
    reasons = [detail.get("reason") for detail in details_of(error)]
    return [code for code in (error.get("code"), error.get("type"), *reasons) if isinstance(code, str)]


def _is_the_vendors(spec: VendorSpec, error: Mapping[str, Any]) -> bool:
    """Whether the error is the vendor's own. Any other answer with status 5xx is that of something in between,
    which cannot say what became of the call."""
    if (known := spec.is_own_error(error)) is not None:
        return known
    return isinstance(error.get("message"), str) and bool(_codes(error))


def meaning_of(kind: Kind, status: int, error: Mapping[str, Any]) -> Meaning:
    """What an answer with this HTTP status and this ``error`` object means."""
    spec = spec_of(kind)
    if status == 429 and (quota := spec.quota_failure(error)):
        return quota
    for code in _codes(error):
        if known := spec.error_codes.get(code):
            return known
    if known := _BY_STATUS.get(status):
        return known
    if status >= 500:
        return Meaning.OUTAGE if _is_the_vendors(spec, error) else Meaning.LOST_AFTER_SENDING
    return Meaning.BAD_REQUEST if status >= 400 else Meaning.UNUSABLE_BODY


def _detail(error: Mapping[str, Any], body: Any) -> str:
    message = error.get("message")
    text = message if isinstance(message, str) and message else str(body or "no message")
    return redact(" ".join(text.split()))[:_LONGEST_DETAIL].rstrip(".")


def answered_with_error(
    kind: Kind, provider: str, status: int, headers: Mapping[str, str], body: Any
) -> ProviderError:
    """The error for an HTTP answer that is no success; ``body`` as decoded JSON or as text."""
    if isinstance(body, str):
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):  # deeply nested JSON raises the latter
            body = body[:_LONGEST_DETAIL]
    error = error_of(body)
    lowered = {name.lower(): value for name, value in headers.items()}
    meaning, wait = meaning_of(kind, status, error), requested_wait(lowered, body)
    if meaning in (Meaning.QUOTA_UNTIL_RESET, Meaning.MODEL_QUOTA) and (
        reset := spec_of(kind).seconds_until_reset
    ):
        wait = max(wait or 0.0, reset(lowered.get("date")))
    return ProviderError(
        meaning,
        provider,
        _detail(error, body),
        status=status,
        wait_seconds=wait,
        headers=lowered,
    )


def not_answered(provider: str, failure: BaseException) -> ProviderError:
    """The error for a call that got no complete answer, from the transport exception behind it.

    What is not known to have happened before or while sending counts as lost after sending: it may have
    been paid.
    """
    seen: BaseException | None = failure
    while seen is not None:
        if known := _TRANSPORT.get(type(seen).__name__):
            meaning, detail = known
            return ProviderError(meaning, provider, detail)
        seen = seen.__cause__ or seen.__context__
    detail = f"the connection was lost before the answer was complete ({type(failure).__name__})"
    return ProviderError(Meaning.LOST_AFTER_SENDING, provider, detail)


def not_usable(provider: str, meaning: Meaning, detail: str) -> ProviderError:
    """The error for an answer that came with status 200 and is of no use."""
    return ProviderError(meaning, provider, redact(" ".join(detail.split()))[:_LONGEST_DETAIL])


def not_the_api(provider: str, detail: str) -> ProviderError:
    """The error for an answer that is HTML, ``{}`` or anything else that the provider's API never sends."""
    return not_usable(provider, Meaning.UNUSABLE_BODY, f"the answer is not the API's: {detail}")
