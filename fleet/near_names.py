"""The known name that a wrong one may mean."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], min_likeness: float = 0.6) -> str | None:
    """The known name that is most like this one; None if none is as like it as ``min_likeness`` (0 to 1)."""
    return next(iter(difflib.get_close_matches(name, known, 1, min_likeness)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`` (did you mean X?)`` with the nearest known name; empty if there is none."""
    near = nearest(name, known)
    return f" (did you mean {near}?)" if near else ""
