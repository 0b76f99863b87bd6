"""Waiting for a condition, with a bound."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

#: For what comes soon or not at all: a busy machine takes many times as long as an idle one.
LONGEST_SECONDS = 180.0


def wait_for(what: str, look: Callable[[], Found], seconds: float = LONGEST_SECONDS) -> Found:
    """What ``look`` finds, as soon as it is true. The looks are fewer if one takes long, and the longer the wait
    is."""
    start = time.monotonic()
    deadline = start + seconds
    while True:
        began = time.monotonic()
        if found := look():
            return found
        ended = time.monotonic()
        if ended > deadline:
            raise AssertionError(f"{what} did not happen within {seconds:g} s")
        time.sleep(max(min(max(0.05, 2 * (ended - began)), 0.25), min((ended - start) / 50, 1.0)))
