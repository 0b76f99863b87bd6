"""Memory that a process has freed is returned to the machine, once in a while."""

import gc
import subprocess
import sys
import weakref

import pytest

from fleet.process.freed_memory import RETURN_SECONDS, FreedMemory

# The last block keeps the heap's end in use, so that free() alone returns nothing.
PROBE = """
import re
from pathlib import Path
from fleet.process.freed_memory import FreedMemory

def megabytes():
    return int(re.search(r"^Rss: +(\\d+) kB", Path("/proc/self/smaps_rollup").read_text(), re.M)[1]) / 1000

now = [0.0]
freed_memory = FreedMemory(lambda: now[0])
blocks = [bytes(2000) for _ in range(40_000)]
del blocks[:-1]
before = megabytes()
now[0] = 3600.0
assert freed_memory.return_if_due()
print(before - megabytes())
"""


class Node:
    """Refers to itself, so that only the garbage collector frees it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def now() -> list[float]:
    return [0.0]


def test_freed_blocks_return_to_the_machine() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 40


def test_cycles_are_freed_when_the_time_has_come(now: list[float]) -> None:
    freed_memory = FreedMemory(lambda: now[0])
    gc.disable()
    try:
        node = weakref.ref(Node())
        now[0] = RETURN_SECONDS - 1
        assert not freed_memory.return_if_due()
        assert node() is not None, "too early"
        now[0] = RETURN_SECONDS
        assert freed_memory.return_if_due()
        assert node() is None
    finally:
        gc.enable()


def test_it_is_done_once_in_each_interval(now: list[float]) -> None:
    freed_memory = FreedMemory(lambda: now[0])
    now[0] = RETURN_SECONDS
    assert [freed_memory.return_if_due(), freed_memory.return_if_due()] == [True, False]


def test_a_process_that_takes_long_for_it_does_it_less_often() -> None:
    times = iter([0.0, RETURN_SECONDS, RETURN_SECONDS + 1, 100.0, 300.0, 301.0])
    freed_memory = FreedMemory(lambda: next(times))
    assert [freed_memory.return_if_due() for _ in range(3)] == [True, False, True], "a second in 200"
