"""A fleet in the foreground: it runs until a stop signal comes."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from fleet.cli.fleet_record import FleetRecord
from fleet.errors import OperationError

_LOOK_SECONDS = 1.0
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def stay_until(stop: threading.Event, record: FleetRecord) -> None:
    """Return when ``stop`` is set.

    Raises:
        OperationError: a process of the fleet ended by itself.
    """
    while not stop.wait(_LOOK_SECONDS):
        if ended := [process.name for process in record.processes if not process.alive]:
            raise OperationError(f"{', '.join(ended)} ended by itself. Remedy: read its log in the logs folder")


@contextmanager
def signalled() -> Iterator[threading.Event]:
    """An event that is set when a stop signal comes."""
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, handle) for number in _ENDING}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
