"""Returns memory that a process has freed to the machine.

glibc keeps what was freed for later allocations. After a burst of work, a process would keep 8 to 17 MB that it no
longer uses. Source: malloc_trim(3).
"""

import ctypes
import gc
import time
from collections.abc import Callable

RETURN_SECONDS = 10.0
# A process with many open pipelines has much to look through, and stands still meanwhile.
_MAX_SHARE_OF_TIME = 0.005


class FreedMemory:
    """Returns memory once in :data:`RETURN_SECONDS`, or less often where that takes long."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        self._clock = clock
        self._due_at = clock() + RETURN_SECONDS

    def return_if_due(self) -> bool:
        """Return what was freed since the last time, if that is long enough ago; whether it was."""
        began = self._clock()
        if began < self._due_at:
            return False
        gc.collect()  # a finished pipeline is a cycle of objects, which an idle process would keep
        if self._trim is not None:
            self._trim(0)
        ended = self._clock()
        self._due_at = ended + max(RETURN_SECONDS, (ended - began) / _MAX_SHARE_OF_TIME)
        return True
