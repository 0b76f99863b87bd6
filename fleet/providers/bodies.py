"""Finding one's way in the providers' error bodies, whatever came instead of what is documented."""

from collections.abc import Mapping
from typing import Any


def error_of(body: Any) -> dict[str, Any]:
    """The ``error`` object of a body, in whichever wrapping it came; empty if there is none."""
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    error = body.get("error", body) if isinstance(body, dict) else {}
    return error if isinstance(error, dict) else {}


def details_of(error: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Google's ``error.details``; empty if there are none."""
    details = error.get("details")
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []
