"""How large values are as Temporal carries them. It refuses what is too large, for ever."""

import json
from typing import Any

from fleet.contracts import PAYLOAD_MAX_BYTES
from fleet.process.data_converter import data_converter

# JSON writes a character as six at most; texts that are shorter than this need not be encoded to be measured.
_LONGEST_ESCAPE = 6


def text_bytes(text: str) -> int:
    """The size of a text within a payload: in UTF-8, escaped as JSON needs it."""
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")) - 2


def payload_bytes(value: Any) -> int:
    """The size of a value as one payload."""
    (payload,) = data_converter().payload_converter.to_payloads([value])
    return len(payload.data)


def surely_fit(texts: list[str]) -> bool:
    """Whether these fit into one payload, whatever they are made of."""
    return sum(len(text) for text in texts) * _LONGEST_ESCAPE < PAYLOAD_MAX_BYTES


def cut_to_fit(text: str, max_bytes: int) -> str:
    """The longest beginning of a text that takes at most that much of a payload, or a little less."""
    while (size := text_bytes(text)) > max_bytes:
        text = text[: min(len(text) * max_bytes // size, len(text) - 1)]
    return text
