"""Maps every provider's errors to failure kinds.

The mapping uses status, error code and headers, not the wording of a message, with one exception: that an input
exceeds the context window is said by some vendors in words alone. If those words change, the failure is a bad
request again, which is not retried either. Sources: the providers' error
pages (OpenAI "Error codes", Anthropic "Errors" and "Rate limits", Gemini "Troubleshooting", "Rate limits",
``google.rpc.QuotaFailure`` and ``google.api.ErrorReason``). The adapters split a vendor's exception into status,
headers and body and pass these on; the name of the exception class does not matter elsewhere.
"""

import json
from collections.abc import Mapping
from typing import Any

from fleet.errors import ProviderError
from fleet.failures import FailureKind
from fleet.provider_settings import Kind, ProviderSettings
from fleet.providers.base import SIMULATOR_HEADER
from fleet.providers.registry import provider_address, spec_of
from fleet.providers.response_bodies import details_of, error_of
from fleet.providers.retry_after import requested_wait
from fleet.providers.spec import VendorSpec
from fleet.redaction import excerpt

_LONGEST_DETAIL = 300

_BY_STATUS: dict[int, FailureKind] = {
    401: FailureKind.KEY_REJECTED,
    402: FailureKind.QUOTA_SPENT,
    403: FailureKind.FORBIDDEN,
    404: FailureKind.NOT_FOUND,
    408: FailureKind.OUTAGE,
    409: FailureKind.OUTAGE,
    429: FailureKind.RATE,
    529: FailureKind.OVERLOAD,
}

#: Transport exceptions by class name: httpx, httpx2 and requests agree on these.
_TRANSPORT: dict[str, tuple[FailureKind, str]] = {
    "ConnectError": (FailureKind.LOST_BEFORE_SENDING, "no connection could be made"),
    "ConnectTimeout": (FailureKind.LOST_BEFORE_SENDING, "no connection could be made in time"),
    "NewConnectionError": (FailureKind.LOST_BEFORE_SENDING, "no connection could be made"),
    "PoolTimeout": (FailureKind.LOST_BEFORE_SENDING, "no connection was free in time"),
    "ProxyError": (FailureKind.LOST_BEFORE_SENDING, "the proxy refused the connection"),
    "SSLCertVerificationError": (FailureKind.LOST_BEFORE_SENDING, "the server's certificate was not accepted"),
    "UnsupportedProtocol": (FailureKind.LOST_BEFORE_SENDING, "base_url is not an http(s) address"),
    "ReadTimeout": (FailureKind.TIMED_OUT, "no answer came in time"),
    "WriteTimeout": (FailureKind.TIMED_OUT, "the request could not be sent in time"),
    "ReadTimeoutError": (FailureKind.TIMED_OUT, "no answer came in time"),
    "AnswerTooLarge": (FailureKind.UNUSABLE_BODY, "the answer is larger than any of a model"),
}


def _codes(error: Mapping[str, Any]) -> list[str]:
    reasons = [detail.get("reason") for detail in details_of(error)]
    return [code for code in (error.get("code"), error.get("type"), *reasons) if isinstance(code, str)]


def _is_the_vendors(spec: VendorSpec, error: Mapping[str, Any]) -> bool:
    """Whether the error is the vendor's own. Any other answer with status 5xx comes from something in between,
    which does not know what happened to the call."""
    if (known := spec.is_own_error(error)) is not None:
        return known
    return isinstance(error.get("message"), str) and bool(_codes(error))


def failure_kind_of(kind: Kind, status: int, error: Mapping[str, Any]) -> FailureKind:
    """The failure kind of an answer with this HTTP status and this ``error`` object."""
    spec = spec_of(kind)
    if status == 429 and (quota := spec.quota_failure(error)):
        return quota
    for code in _codes(error):
        if known := spec.error_codes.get(code):
            return known
    if known := _BY_STATUS.get(status):
        return known
    if status >= 500:
        return FailureKind.OUTAGE if _is_the_vendors(spec, error) else FailureKind.LOST_AFTER_SENDING
    if status == 400 and spec.says_too_long and spec.says_too_long.search(str(error.get("message"))):
        return FailureKind.CONTEXT_EXCEEDED
    return FailureKind.BAD_REQUEST if status >= 400 else FailureKind.UNUSABLE_BODY


def _detail(error: Mapping[str, Any], body: Any) -> str:
    message = error.get("message")
    text = message if isinstance(message, str) and message else str(body or "no message")
    return excerpt(" ".join(text.split()), _LONGEST_DETAIL).rstrip(".")


def answered_with_error(
    kind: Kind, provider: str, status: int, headers: Mapping[str, str], body: Any
) -> ProviderError:
    """The error for an HTTP answer without success; ``body`` is decoded JSON or text."""
    if isinstance(body, str):
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):  # deeply nested JSON raises the latter
            body = excerpt(body, _LONGEST_DETAIL)
    error = error_of(body)
    lowered = {name.lower(): value for name, value in headers.items()}
    failure_kind, wait = failure_kind_of(kind, status, error), requested_wait(lowered, body)
    if failure_kind in (FailureKind.QUOTA_UNTIL_RESET, FailureKind.MODEL_QUOTA) and (
        reset := spec_of(kind).seconds_until_reset
    ):
        wait = max(wait or 0.0, reset(lowered.get("date")))
    return ProviderError(
        failure_kind,
        provider,
        _detail(error, body),
        status=status,
        wait_seconds=wait,
        headers=lowered,
    )


def not_answered(provider: str, failure: BaseException) -> ProviderError:
    """The error for a call without a complete answer, from the transport exception that caused it.

    A failure that is not known to have happened before or during sending counts as lost after sending: the call
    may have been paid.
    """
    seen: BaseException | None = failure
    while seen is not None:
        if known := _TRANSPORT.get(type(seen).__name__):
            failure_kind, detail = known
            return ProviderError(failure_kind, provider, detail)
        seen = seen.__cause__ or seen.__context__
    detail = f"the connection was lost before the answer was complete ({type(failure).__name__})"
    return ProviderError(FailureKind.LOST_AFTER_SENDING, provider, detail)


def not_connected(lost: ProviderError, address: str, cause: BaseException | None) -> ProviderError:
    """A call that was not sent, with the address and with what the operating system says."""
    said = f": {_innermost(cause)}" if cause is not None else ""
    return lost.as_kind(lost.failure_kind, f"{address}: {lost.detail}{said}")


def with_address(error: ProviderError, settings: ProviderSettings, model: str) -> ProviderError:
    """The error of a call, with the address where that may be the cause: no connection could be made, or a
    ``base_url`` of the user's own answered 404, which a wrong path does as well as a wrong model."""
    if error.before_sending:
        return not_connected(error, provider_address(settings), error.__cause__)
    simulated = error.headers.get(SIMULATOR_HEADER) == "true"
    if error.failure_kind is not FailureKind.NOT_FOUND or settings.base_url is None or simulated:
        return error
    detail = f"{error.detail} (model {model} at {settings.base_url})"
    variable = f"FLEET_PROVIDERS__{settings.name.upper()}__BASE_URL"
    remedy = f"set a model that exists there, or correct the path in base_url ({variable})"
    return error.as_kind(error.failure_kind, detail, remedy)


def _innermost(error: BaseException) -> str:
    """The innermost error's message, usually that of the operating system."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return str(error) or type(error).__name__


def not_usable(provider: str, failure_kind: FailureKind, detail: str) -> ProviderError:
    """The error for an answer with status 200 that cannot be used."""
    return ProviderError(failure_kind, provider, excerpt(" ".join(detail.split()), _LONGEST_DETAIL))


#: What an SDK raises, beside its own exceptions, for an answer that is not as its API documents it.
MISREAD = (ValueError, TypeError, LookupError, AttributeError, AssertionError, RuntimeError)


def misread(provider: str, failure: BaseException) -> ProviderError:
    """The error for an answer at which an SDK failed."""
    what = f"{type(failure).__name__}: {failure}".rstrip(": ")
    return not_the_api(provider, f"it cannot be read ({what})")


def not_the_api(provider: str, detail: str) -> ProviderError:
    """The error for an answer that the provider's API never sends, such as HTML or ``{}``."""
    return not_usable(provider, FailureKind.UNUSABLE_BODY, f"the answer is not the API's: {detail}")
