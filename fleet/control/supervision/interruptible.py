"""Interrupting an operation on processes: it ends in good order, with nothing stopped and nothing left over.

What has been told to drain cannot be called back. So the first SIGINT, SIGTERM or SIGHUP only asks: the operation
finishes the process that it is at, tidies up and says how far it came. A second SIGINT or SIGTERM leaves at once;
what is then left over, the next operation tidies up. A lost terminal may send SIGHUP twice, so that never counts
as the second. Signals that are ignored already (nohup, a job in the background) stay ignored.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from fleet.errors import OperationError

_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(OperationError):
    """A signal ended the operation early. ``status`` is the exit status that a shell expects then."""

    code = "interrupted"

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number

    @property
    def status(self) -> int:
        """128 and the signal's number."""
        return 128 + self.number


class Interruption:
    """Whether a signal has asked for the end."""

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None

    def check(self) -> None:
        """To be called where nothing is in the air.

        Raises:
            Interrupted: a signal has asked for the end.
        """
        if self.asked is not None:
            raise Interrupted(f"interrupted by {self.asked.name}", self.asked)


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Within the block signals only ask. To be used in the main thread."""
    interruption = Interruption()

    def handle(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if interruption.asked is not None and number != signal.SIGHUP:
            _say(f"{name} again: leaving now; the next scale or roll tidies up\n")
            os._exit(128 + number)
        if interruption.asked is None:
            interruption.asked = signal.Signals(number)
            _say(f"{name}: ending as soon as no process is half renewed; a second one leaves at once\n")

    before = {number: signal.getsignal(number) for number in _ASKING}
    ours = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    try:
        for number in ours:
            signal.signal(number, handle)
        yield interruption
    finally:
        for number in ours:
            signal.signal(number, before[number])


def _say(text: str) -> None:
    """From within a handler, which may have interrupted a print; the terminal may be gone."""
    with suppress(OSError):
        os.write(2, text.encode())
