"""Keeps API keys out of everything that is written, shown or sent to Temporal.

Two layers: the exact keys that this process has received (:func:`protect`), and patterns of the providers' keys,
for keys that came in another way.
"""

import hashlib
import re

MASK = "[key removed]"
_SHORTEST_SECRET = 8
_WINDOW = 65_536

_KEY_SHAPES = re.compile(
    r"""(?<![A-Za-z0-9])sk-[A-Za-z0-9_-]{8,}  # OpenAI, Anthropic (sk-ant-…) and many compatible ones; no "task-…"
      | sk-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{20,}  # one of them behind an escape, such as \\nsk-…
      | AIza[A-Za-z0-9_-]{20,}          # Google
      | gsk_[A-Za-z0-9]{8,}             # Groq
      | (?<=Bearer\ )[A-Za-z0-9._~+/-]{8,}=*
      | (?<=[?&]key=)[^&\s"']{8,}
    """,
    re.VERBOSE,
)
_protected: set[str] = set()


def protect(secret: str) -> None:
    """Remove ``secret`` from every text that passes :func:`redact` in this process from now on. Secrets of fewer
    than 8 characters are ignored."""
    if len(secret) >= _SHORTEST_SECRET:
        _protected.add(secret)


def mark(secret: str) -> str:
    """A short hash that distinguishes secrets and reveals none of them; empty for an empty secret."""
    return hashlib.sha256(secret.encode()).hexdigest()[:8] if secret else ""


def redact(text: str) -> str:
    """``text`` with every known secret, and everything shaped like a key, replaced by a mask."""
    for secret in _protected:
        text = text.replace(secret, MASK)
    return _KEY_SHAPES.sub(MASK, text)


def excerpt(text: str, at_most: int) -> str:
    """The first ``at_most`` characters of ``text`` without keys. They are removed before the text is cut, since a
    part of a key is not recognised. Only a bounded part of a long text is searched."""
    return redact(text[: at_most + _WINDOW])[:at_most]
