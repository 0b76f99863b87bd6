"""What a provider's rate-limit headers say of its limits.

Sources: OpenAI "Rate limits" (``x-ratelimit-*``), Anthropic "Rate limits" (``anthropic-ratelimit-*``). Gemini
sends none. Others that speak OpenAI's API use the same names, some for limits a day: the reset tells.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from fleet.contracts import Limited
from fleet.providers.retry_after import parse_duration, time_there, until

_NAMES = {
    "requests": Limited.REQUESTS,
    "tokens": Limited.TOKENS,
    "input-tokens": Limited.INPUT_TOKENS,
    "output-tokens": Limited.OUTPUT_TOKENS,
}
_NOT_PER_MINUTE = 0.5
_LEAST_USED = 0.002


@dataclass(frozen=True)
class HeaderReading:
    """One limit: what is left of it, what comes back a second, and the whole of it."""

    what: Limited
    refill: float
    remaining: float
    limit: float


def limits_in(headers: Mapping[str, str], now: datetime | None = None) -> list[HeaderReading]:
    """The limits that an answer tells of; header names in lower case."""
    now = now or time_there(headers)
    found = list(_openai(headers, now)) or list(_anthropic(headers, now))
    apart = {Limited.INPUT_TOKENS, Limited.OUTPUT_TOKENS} & {one.what for one in found}
    # Anthropic's header of all tokens repeats whichever of its limits is the tightest.
    return [one for one in found if not (apart and one.what is Limited.TOKENS)]


def _openai(headers: Mapping[str, str], now: datetime) -> Iterator[HeaderReading]:
    for name, what in _NAMES.items():
        prefix, suffix = "x-ratelimit-", f"-{name}"
        reading = _reading(
            what,
            headers.get(f"{prefix}limit{suffix}"),
            headers.get(f"{prefix}remaining{suffix}"),
            headers.get(f"{prefix}reset{suffix}"),
            now,
        )
        if reading:
            yield reading


def _anthropic(headers: Mapping[str, str], now: datetime) -> Iterator[HeaderReading]:
    for name, what in _NAMES.items():
        prefix = f"anthropic-ratelimit-{name}-"
        reading = _reading(
            what,
            headers.get(f"{prefix}limit"),
            headers.get(f"{prefix}remaining"),
            headers.get(f"{prefix}reset"),
            now,
        )
        if reading:
            yield reading


def _reading(
    what: Limited, limit: str | None, remaining: str | None, reset: str | None, now: datetime
) -> HeaderReading | None:
    if not limit or not remaining:
        return None
    try:
        whole, left = float(limit), float(remaining)
    except ValueError:
        return None
    if not 0 < whole < float("inf") or not 0 <= left < float("inf"):
        return None
    seconds = parse_duration(reset or "")
    if seconds is None:
        seconds = until(reset, now)
    refill = whole / 60
    used = whole - left
    if seconds and seconds > 1 and used > _LEAST_USED * whole and used / seconds < _NOT_PER_MINUTE * refill:
        refill = used / seconds
    return HeaderReading(what, refill, left, whole)
