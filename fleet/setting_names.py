"""The names of settings: their variables, and the known name that a wrong one may mean."""

import difflib
from collections.abc import Iterable


def variable_of(location: tuple[int | str, ...]) -> str:
    """The environment variable that sets the setting at a validation error's location."""
    head, *rest = (str(part) for part in location)
    if head.isupper():
        return head
    return "__".join(["FLEET_" + head.upper(), *(part.upper() for part in rest)])


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like this one; None if none is like it."""
    return next(iter(difflib.get_close_matches(name, known, n=1)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`` (did you mean X?)`` with the nearest known name; empty if there is none."""
    near = nearest(name, known)
    return f" (did you mean {near}?)" if near else ""
