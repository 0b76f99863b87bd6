"""Gemini without its SDKs. Sources: Gemini's "Troubleshooting", "Rate limits" and model pages,
``google.rpc.QuotaFailure`` and ``google.api.ErrorReason``."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fleet.failures import FailureKind
from fleet.providers.gemini.error_codes import ERROR_CODES
from fleet.providers.gemini.models import MODELS
from fleet.providers.gemini.options import gemini_options
from fleet.providers.response_bodies import details_of
from fleet.providers.retry_after import until
from fleet.providers.spec import Adapter, VendorSpec


def _limited_tokens(max_tokens: int | None, tokens_in: float, tokens_out: float) -> float:
    return tokens_in


def _quota_failure(error: Mapping[str, Any]) -> FailureKind | None:
    """The failure kind of a 429, from its quota violations. A limit per minute: None. A daily limit or a limit of
    0: MODEL_QUOTA if it is per model, as most are; otherwise, for the project, QUOTA_UNTIL_RESET for the day and
    QUOTA_SPENT for 0."""
    for detail in details_of(error):
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else []:
            quota, none = str(violation.get("quotaId", "")), str(violation.get("quotaValue", "")) == "0"
            if none or "PerDay" in quota:
                whole = FailureKind.QUOTA_SPENT if none else FailureKind.QUOTA_UNTIL_RESET
                return FailureKind.MODEL_QUOTA if "PerModel" in quota else whole
    return None


def _is_own_error(error: Mapping[str, Any]) -> bool | None:
    """Gemini's form: a number as code, and a status in capitals."""
    return str(error.get("status", "")).isupper() if isinstance(error.get("code"), int) else None


def _pacific() -> tzinfo:
    try:
        return ZoneInfo("America/Los_Angeles")
    except ZoneInfoNotFoundError:  # a machine without the tz database; one hour late in summer
        return timezone(timedelta(hours=-8))


def _seconds_until_reset(date: str | None) -> float:
    """Seconds until daily quotas are reset at midnight, Pacific time. The refusal itself may ask for less, even
    for a minute."""
    here = datetime.now(UTC)
    now = here + timedelta(seconds=until(date, here) or 0.0)  # by the provider's clock if it sent a date
    zone = _pacific()
    tomorrow = now.astimezone(zone).date() + timedelta(days=1)
    midnight = datetime.combine(tomorrow, time(), zone)
    return (midnight.astimezone(UTC) - now).total_seconds()


SPEC = VendorSpec(
    official_url="https://generativelanguage.googleapis.com",
    adapters={
        "": Adapter("adapter", "GeminiProvider"),
        "google-generativeai": Adapter(
            "legacy_adapter",
            "LegacyGeminiProvider",
            package="google.generativeai",
            extra="requirements/gemini-legacy.txt",
            instead="google-genai",
        ),
    },
    price_list="google",
    example_model="gemini-3.5-flash-lite",
    unknown_model="gemini-2.5-nonexistent",
    limited_tokens=_limited_tokens,
    key_variables=("GOOGLE_API_KEY",),
    quota_failure=_quota_failure,
    is_own_error=_is_own_error,
    seconds_until_reset=_seconds_until_reset,
    error_codes=ERROR_CODES,
    says_too_long=re.compile(r"token count.*exceeds the maximum number of tokens", re.IGNORECASE),
    models=MODELS,
    options=gemini_options,
)
