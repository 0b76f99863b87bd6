"""A fleet in the foreground: it runs until a stop signal comes. A signal that is ignored already, as by a command
under nohup, stays ignored."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from types import FrameType

from fleet.cli.fleet_record import FleetRecord
from fleet.control.supervision.interrupt_handling import handled
from fleet.errors import OperationError

_LOOK_SECONDS = 1.0
_NOT_FROM_KEYS = (signal.SIGTERM, signal.SIGHUP)
_ENDING = (signal.SIGINT, *_NOT_FROM_KEYS)


class Stop:
    """Whether the end was asked for. A handler may set it while the thread that it interrupts waits for it, where
    ``threading.Event`` would wait without end for a lock of that thread: ``SimpleQueue.put`` is reentrant. Source:
    docs.python.org/3/library/queue.html."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """Ask for the end."""
        self._asked.put(None)

    def wait(self, seconds: float) -> bool:
        """Whether the end was asked for, by then at the latest."""
        try:
            self._asked.get(timeout=seconds)
        except Empty:
            return False
        self.set()
        return True


def stay_until(stop: Stop, record: FleetRecord) -> None:
    """Return when ``stop`` is set.

    Raises:
        OperationError: a process of the fleet ended by itself.
    """
    while not stop.wait(_LOOK_SECONDS):
        if ended := [process.name for process in record.processes if not process.alive]:
            raise OperationError(f"{', '.join(ended)} ended by itself. Remedy: read its log in the logs folder")


@contextmanager
def signalled() -> Iterator[Stop]:
    """The given ``Stop`` is set when a stop signal comes."""
    stop = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()

    with handled(_ENDING, handle):
        yield stop


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP end the command as Ctrl-C does, by an exception, so that it ends what it
    has started. The exit status is 128 plus the signal's number."""

    def handle(number: int, frame: FrameType | None) -> None:
        for each in _NOT_FROM_KEYS:  # a lost terminal may send several
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    with handled(_NOT_FROM_KEYS, handle):
        yield
