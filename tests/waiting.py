"""Waiting for a condition, with a bound."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def wait_for(what: str, look: Callable[[], Found], seconds: float = 30.0) -> Found:
    """What ``look`` finds, as soon as it is true. A dear look is taken less often: what is waited for needs the
    machine too."""
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if found := look():
            return found
        now = time.monotonic()
        if now > deadline:
            raise AssertionError(f"{what} did not happen within {seconds:g} s")
        time.sleep(max(now - began, 0.05))
