"""A wait as a provider writes it into a header."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime


def retry_after_headers(seconds: float | None, form: str) -> dict[str, str]:
    """``retry-after`` in seconds, in milliseconds, as an HTTP date, or not at all."""
    if seconds is None or form == "none":
        return {}
    if form == "ms":
        return {"retry-after-ms": str(round(seconds * 1000))}
    if form == "date":
        return {"retry-after": format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)}
    return {"retry-after": f"{seconds:g}"}


def go_duration(seconds: float) -> str:
    """As OpenAI writes resets: ``12ms``, ``1.5s``, ``6m0s``."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}m{rest:.0f}s" if minutes else f"{rest:.3g}s"


def rfc3339(seconds: float) -> str:
    """The point in time that many seconds from now, as Anthropic writes resets."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
