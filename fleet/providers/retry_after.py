"""How long a provider asks to wait, in all the forms that providers use. Seconds throughout."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from fleet.process.wall_clock import unix_time
from fleet.providers.response_bodies import details_of, error_of

_LONGEST_WAIT = 7 * 86_400.0
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float | None:
    """Seconds of a duration such as ``12ms``, ``6m0s``, ``46s`` or ``1.5s``; None if the text is not a
    duration."""
    text = text.strip()
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def time_there(headers: Mapping[str, str]) -> datetime:
    """The time by the clock of the server that answered, which its timestamps refer to; this machine's time if the
    answer has no date."""
    return _moment(headers.get("date")) or datetime.fromtimestamp(unix_time(), UTC)


def _moment(text: str | None) -> datetime | None:
    """A time written as an HTTP date or in RFC 3339; None if the text is neither."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text) if text[:1].isdigit() else parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the latter for a year that no date has
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def until(text: str | None, now: datetime) -> float | None:
    """Seconds until a time written as an HTTP date or in RFC 3339; None if the text is neither."""
    moment = _moment(text)
    return None if moment is None else (moment - now).total_seconds()


def _retry_delay(body: Any) -> float | None:
    """Gemini's ``error.details[].retryDelay``."""
    for detail in details_of(error_of(body)):
        if isinstance(delay := detail.get("retryDelay"), str):
            return parse_duration(delay)
    return None


def _exhausted_reset(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds until the exhausted limits are reset, for an answer without Retry-After."""
    waits = []
    for name, value in headers.items():
        if "ratelimit" in name and "-remaining" in name and _number(value) == 0:
            reset = headers.get(name.replace("-remaining", "-reset"), "")
            wait = parse_duration(reset)
            waits.append(wait if wait is not None else until(reset, now))
    return max((wait for wait in waits if wait is not None), default=None)


def requested_wait(headers: Mapping[str, str], body: Any, now: datetime | None = None) -> float | None:
    """The wait that an answer asks for, None if it asks for none; header names in lower case.

    Checked in this order: ``retry-after-ms``, ``retry-after`` (seconds or HTTP date), Gemini's ``retryDelay``, the
    reset of an exhausted limit.
    """
    now = now or time_there(headers)
    milliseconds = _number(headers.get("retry-after-ms"))
    retry_after = headers.get("retry-after")
    candidates = (
        milliseconds / 1000 if milliseconds is not None else None,
        _number(retry_after),
        until(retry_after, now),
        _retry_delay(body),
        _exhausted_reset(headers, now),
    )
    for wait in candidates:
        if wait is not None and wait == wait:
            return min(max(wait, 0.0), _LONGEST_WAIT)
    return None
