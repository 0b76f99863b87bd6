"""The size of values as Temporal payloads. Temporal refuses a payload that is too large, and a retry does not
help."""

import json
from typing import Any

from fleet.contracts import PAYLOAD_MAX_BYTES
from fleet.process.data_converter import data_converter

# JSON writes a character as six bytes at most, so short texts need not be encoded to be measured.
_LONGEST_ESCAPE = 6


def text_bytes(text: str) -> int:
    """The size of a text within a payload, in bytes: UTF-8, escaped as JSON requires."""
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")) - 2


def payload_bytes(value: Any) -> int:
    """The size of a value as one payload, in bytes."""
    (payload,) = data_converter().payload_converter.to_payloads([value])
    return len(payload.data)


def surely_fit(texts: list[str]) -> bool:
    """Whether these texts fit into one payload whatever characters they contain."""
    return sum(len(text) for text in texts) * _LONGEST_ESCAPE < PAYLOAD_MAX_BYTES


def cut_to_fit(text: str, max_bytes: int) -> str:
    """The longest beginning of a text that takes at most ``max_bytes`` of a payload, or a little less."""
    while (size := text_bytes(text)) > max_bytes:
        text = text[: min(len(text) * max_bytes // size, len(text) - 1)]
    return text
