"""Makes text from outside harmless, for a terminal, a log or a table; and alone writes to standard output and
standard error.

A terminal obeys what it is sent: an escape sequence in an assistant's name moves the cursor over what was printed,
sets the title, or writes the clipboard (OSC 52). Invisible characters disguise text without any sequence. All of
them are shown as escapes, such as ``\\x1b``, so that a reader sees that they are there.
"""

import json
import re
import sys
from typing import Any

from fleet.redaction import redact

_HARMFUL = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # C0 and C1 controls: escape sequences (CSI, OSC), line breaks, bells
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional marks and overrides, which reorder text
    "\u2028\u2029"  # line and paragraph separators
    "\u00ad\u180e\u200b\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb"  # invisible, so that two names look alike
    "\ud800-\udfff"  # lone surrogates, which cannot be written as UTF-8
    "\U000e0000-\U000e0fff"  # tag characters and variation selectors, which carry hidden text
    "]"
)


def harmless(text: str, at_most: int | None = None) -> str:
    """``text`` on one line, with API keys removed and control and invisible characters escaped; then cut to
    ``at_most`` characters, so that no part of a key or of an escape sequence remains."""
    return _HARMFUL.sub(_escaped, redact(text))[:at_most]


def harmless_lines(text: str) -> str:
    """``text`` with its line breaks; each line is :func:`harmless`."""
    # By line feed alone: other separators are escaped. A key that is spread over lines is no key any more.
    return "\n".join(harmless(line) for line in redact(text).replace("\r\n", "\n").split("\n"))


def write_line(text: str) -> None:
    """Write harmless lines to standard output."""
    print(harmless_lines(text), flush=True)


def write_document(text: str) -> None:
    """Write a text that is wanted unchanged: a file or another program gets it as it is, a terminal harmless
    lines."""
    if sys.stdout.isatty():
        write_line(text)
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "replace") + b"\n")
    sys.stdout.buffer.flush()


def write_error(text: str) -> None:
    """Write harmless lines to standard error."""
    print(harmless_lines(text), file=sys.stderr, flush=True)


def write_json(value: Any) -> None:
    """Write a JSON value on one line of standard output, in ASCII, so that a terminal obeys no character of it."""
    # DEL is the one control character that json does not escape. Keys are removed before it escapes: a mask in the
    # middle of an escape would break the JSON.
    print(json.dumps(_without_keys(value), ensure_ascii=True).replace("\x7f", "\\u007f"), flush=True)


def _without_keys(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: _without_keys(inner) for name, inner in value.items()}
    return [_without_keys(inner) for inner in value] if isinstance(value, list | tuple) else value


def _escaped(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode("ascii")
