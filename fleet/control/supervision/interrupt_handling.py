"""Interrupts an operation on processes in an orderly way: no process stays stopped and nothing is left over.

A process that was told to drain cannot be called back. So the first SIGINT, SIGTERM or SIGHUP is only a request:
the operation finishes the current process, cleans up and reports how far it came. A second SIGINT or SIGTERM exits
at once; the next operation cleans up what is left over. A lost terminal may send SIGHUP twice, so SIGHUP never
counts as the second signal. Signals that are already ignored (nohup, a background job) stay ignored.
"""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from fleet.errors import OperationError

_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(OperationError):
    """A signal ended the operation early. ``status`` is the exit status that a shell expects."""

    code = "interrupted"

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number

    @property
    def status(self) -> int:
        """128 plus the signal's number."""
        return 128 + self.number


class Interruption:
    """Whether a signal has requested the end."""

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None

    def check(self) -> None:
        """To be called where the operation can end without leaving anything unfinished.

        Raises:
            Interrupted: a signal has requested the end.
        """
        if self.asked is not None:
            raise Interrupted(f"interrupted by {self.asked.name}", self.asked)


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Within the block, the first signal only requests the end. To be used in the main thread."""
    interruption = Interruption()

    def handle(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if interruption.asked is not None and number != signal.SIGHUP:
            _say(f"{name} again: leaving now; the next scale or roll tidies up\n")
            os._exit(128 + number)
        if interruption.asked is None:
            interruption.asked = signal.Signals(number)
            _say(f"{name}: ending as soon as no process is half renewed; a second one leaves at once\n")

    with handled(_ASKING, handle):
        yield interruption


@contextmanager
def handled(numbers: Iterable[int], handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Within the block, ``handle`` gets those of these signals that are not ignored. To be used in the main
    thread."""
    before = {number: signal.getsignal(number) for number in numbers}
    ours = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    try:
        for number in ours:
            signal.signal(number, handle)
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])


def _say(text: str) -> None:
    """Write from within a handler, which may have interrupted a print; the terminal may be gone."""
    with suppress(OSError):
        os.write(2, text.encode())
