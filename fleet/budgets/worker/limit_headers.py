"""What a provider's rate-limit headers say about its limits.

The header names of all vendors are checked, whatever the provider's kind. Other services with OpenAI's API use its
names, some for limits per day: the reset time shows that.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from fleet.contracts import Limited
from fleet.providers.registry import all_specs
from fleet.providers.retry_after import parse_duration, time_there, until

_NAMES = {
    "requests": Limited.REQUESTS,
    "tokens": Limited.TOKENS,
    "input-tokens": Limited.INPUT_TOKENS,
    "output-tokens": Limited.OUTPUT_TOKENS,
}
_NOT_PER_MINUTE = 0.5
_MIN_USED = 0.002


@dataclass(frozen=True)
class HeaderReading:
    """One limit: what remains of it, what it refills per second, and its whole amount."""

    what: Limited
    refill: float
    remaining: float
    limit: float


def limits_in(headers: Mapping[str, str], now: datetime | None = None) -> list[HeaderReading]:
    """The limits that an answer's headers report; header names in lower case."""
    now = now or time_there(headers)
    forms = (spec.limit_header for spec in all_specs() if spec.limit_header)
    found = next((told for form in forms if (told := list(_told_by(form, headers, now)))), [])
    apart = {Limited.INPUT_TOKENS, Limited.OUTPUT_TOKENS} & {reading.what for reading in found}
    # Anthropic's header of all tokens repeats whichever of its limits is the tightest.
    return [reading for reading in found if not (apart and reading.what is Limited.TOKENS)]


def _told_by(form: str, headers: Mapping[str, str], now: datetime) -> Iterator[HeaderReading]:
    """The limits in headers with names of that form."""
    for what, names in _header_names(form):
        limit, remaining, reset = (headers.get(name) for name in names)
        if reading := _reading(what, limit, remaining, reset, now):
            yield reading


@cache
def _header_names(form: str) -> list[tuple[Limited, list[str]]]:
    """The names of the headers with limit, remaining and reset of each kind of limit."""
    parts = ("limit", "remaining", "reset")
    return [(what, [form.format(part=part, what=name) for part in parts]) for name, what in _NAMES.items()]


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
    if (
        seconds
        and 1 < seconds < float("inf")
        and used > _MIN_USED * whole
        and used / seconds < _NOT_PER_MINUTE * refill
    ):
        refill = used / seconds
    return HeaderReading(what, refill, left, whole)
