"""Keeps API keys out of everything that is written, shown or sent to Temporal.

Two nets: the exact keys that this process has been given (:func:`protect`), and the shapes that providers'
keys have, for keys that came in by another way.
"""

import hashlib
import re

MASK = "[key removed]"
_SHORTEST_SECRET = 8

_KEY_SHAPES = re.compile(
    r"""sk-[A-Za-z0-9_-]{8,}            # OpenAI, Anthropic (sk-ant-…) and many compatible ones
      | AIza[A-Za-z0-9_-]{20,}          # Google
      | gsk_[A-Za-z0-9]{8,}             # Groq
      | (?<=Bearer\ )[A-Za-z0-9._~+/-]{8,}=*
      | (?<=[?&]key=)[^&\s"']{8,}
    """,
    re.VERBOSE,
)
_protected: set[str] = set()


def protect(secret: str) -> None:
    """Have ``secret`` removed from every text that passes :func:`redact` in this process from now on."""
    if len(secret) >= _SHORTEST_SECRET:
        _protected.add(secret)


def mark(secret: str) -> str:
    """A mark that tells one secret from another and gives neither away; empty for none."""
    return hashlib.sha256(secret.encode()).hexdigest()[:8] if secret else ""


def redact(text: str) -> str:
    """``text`` with every known or key-shaped secret replaced by a mask."""
    for secret in _protected:
        text = text.replace(secret, MASK)
    return _KEY_SHAPES.sub(MASK, text)
