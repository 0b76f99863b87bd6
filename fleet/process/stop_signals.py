"""SIGTERM and SIGINT in an asyncio process.

The first signal only sets an event, from within the loop; the process then drains. A second signal must work even
if the loop is blocked or the drain hangs, so the handler itself exits through ``os._exit``, with the status that a
shell reports for a process killed by that signal. This needs ``signal.signal``, since the handlers of
``loop.add_signal_handler`` wait for the loop. A handler may interrupt the logger while it holds its lock, so it
does not log. The previous handlers are restored at the end of the block.
"""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from loguru import logger

_STOPPING = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_on_signal(stop: asyncio.Event) -> Iterator[None]:
    """Set ``stop`` on the first SIGTERM or SIGINT; exit on the second. To be used in the main thread."""
    loop = asyncio.get_running_loop()

    seen: list[int] = []

    def begin(number: int) -> None:
        logger.info("{}: draining; a second signal leaves at once", signal.Signals(number).name)
        stop.set()

    def handle(number: int, frame: FrameType | None) -> None:
        if seen:
            os.write(2, b"second signal: leaving now, calls in flight are cut off\n")
            os._exit(128 + number)
        seen.append(number)
        loop.call_soon_threadsafe(begin, number)

    before = {number: signal.signal(number, handle) for number in _STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
