"""The fingerprint of a project: equal for two lists of assistants that make the same pipelines. Pure."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from fleet.model_options import OPTIONS

#: The fields of the Backend API's contract that a pipeline depends on.
FIELDS = (
    "functionKey",
    "name",
    "order",
    "active",
    "model_provider",
    "model",
    "system_prompt",
    "temperature",
    "top_p",
    "max_tokens",
    "input_keys",
    "fallback",
    "on_ambiguous",
    "user_template",
    "system_template",
    "output_schema",
    "csv",
    *OPTIONS,
)
_CHARACTERS = 12


def fingerprint_of(payload: Any) -> str:
    """Twelve hexadecimal digits of the assistants as the Backend API returns them. Neither the order of the list
    nor fields that the fleet does not know change it, nor a field that is null instead of missing."""
    rows = [_known(entry) for entry in payload] if isinstance(payload, list) else [payload]
    lines = sorted(json.dumps(row, sort_keys=True) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:_CHARACTERS]


def _known(entry: Any) -> Any:
    if not isinstance(entry, Mapping):
        return entry
    return {"active": True} | {name: entry[name] for name in FIELDS if entry.get(name) is not None}
