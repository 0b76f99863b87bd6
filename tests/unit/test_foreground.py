"""A stop signal ends the wait for it, whatever the waiting thread does at that moment."""

import subprocess
import sys

from tests.waiting import LONGEST_SECONDS

#: On a busy machine each round may wait for its turn, so there are fewer.
ROUNDS, SECONDS = 300, 5
WAITING = f"""
import os, signal, sys, time
from fleet.cli.foreground import signalled

waiting = os.getpid()
ready, told = os.pipe()
if os.fork() == 0:
    os.close(told)
    while number := os.read(ready, 1):
        until = time.perf_counter() + number[0] / 1e6
        while time.perf_counter() < until:
            pass
        os.kill(waiting, signal.SIGTERM)
    os._exit(0)
end = time.monotonic() + {SECONDS}
for number in range({ROUNDS}):
    if number and time.monotonic() > end:
        break
    with signalled() as stop:
        os.write(told, bytes([number % 256]))
        while not stop.wait(0.000001):
            pass
        assert stop.wait(0)
"""


def test_a_stop_signal_is_heard_at_any_moment() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WAITING], timeout=LONGEST_SECONDS, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
