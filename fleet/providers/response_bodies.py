"""Reads values from the providers' response bodies, also if a body is not as documented."""

import json
from collections.abc import Mapping
from typing import Any

#: Larger numbers are invalid as token counts, and prices cannot be computed from them.
_MAX_COUNT = 10**12


def object_answered(content_type: str, content: bytes) -> dict[str, Any] | None:
    """The JSON object in the answer; None if it is anything else."""
    if not content_type.partition(";")[0].strip().endswith("json"):
        return None
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):  # deeply nested JSON raises the latter
        return None
    return body if isinstance(body, dict) else None


def error_of(body: Any) -> dict[str, Any]:
    """The ``error`` object of a body, whichever way it is wrapped; empty if there is none."""
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    error = body.get("error", body) if isinstance(body, dict) else {}
    return error if isinstance(error, dict) else {}


def details_of(error: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Google's ``error.details``; empty if there are none."""
    details = error.get("details")
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def object_in(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The object under that name; empty if there is none."""
    found = body.get(name)
    return found if isinstance(found, dict) else {}


def objects_in(body: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects in the list under that name; empty if there is none."""
    found = body.get(name)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def text_in(body: Mapping[str, Any], name: str) -> str:
    """The text under that name; empty if there is none."""
    found = body.get(name)
    return found if isinstance(found, str) else ""


def count_in(body: Mapping[str, Any], name: str) -> int:
    """The positive integer under that name; 0 if there is none, or a number that cannot be a count."""
    found = body.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 < found <= _MAX_COUNT else 0
