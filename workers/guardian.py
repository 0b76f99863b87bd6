"""``python -m workers.guardian``: replaces frozen processes and logs deaths; an event listener of supervisord.

Source: supervisord.org/events.html. Standard output is reserved for supervisord's protocol.
"""

import asyncio
import os
import sys

from fleet.config import Settings
from fleet.control.supervision.deaths import Deaths
from fleet.control.supervision.healing import GUARDIAN, Healer
from fleet.control.supervision.supervisord_home import Home
from fleet.exit_codes import EXIT_OK
from fleet.process.lifecycle import run_process
from fleet.process.liveness import Liveness
from fleet.process.metrics import Metrics
from fleet.process.stop_signals import stop_on_signal

#: What a listener says: that it waits for an event, and that it has handled one. supervisor.childutils would say
#: the same, but its import would take a fifth of this program's start.
READY, HANDLED = b"READY\n", b"RESULT 2\nOK"


async def life(settings: Settings, name: str, liveness: Liveness, metrics: Metrics) -> int:
    """Check the processes at each tick, until a stop signal comes or supervisord exits."""
    home, stop = Home.of(settings), asyncio.Event()
    healer, deaths = Healer.of(home, lambda process: process.program != GUARDIAN), Deaths(home)
    events = await _events()
    liveness.serving()
    with stop_on_signal(stop):
        stopping = asyncio.create_task(stop.wait(), name="stopping")
        while await _tick(events, stopping):
            await asyncio.to_thread(deaths.look)
            await asyncio.to_thread(healer.look)
            _tell_supervisord(HANDLED)
    return EXIT_OK


async def _events() -> asyncio.StreamReader:
    """What supervisord writes to standard input. A thread that reads it could not be ended by a stop signal."""
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    return reader


async def _tick(events: asyncio.StreamReader, stopping: asyncio.Task[bool]) -> bool:
    """Wait for supervisord's next event; False if this process is to stop, or supervisord has exited."""
    _tell_supervisord(READY)
    event = asyncio.create_task(_event(events), name="event")
    await asyncio.wait({event, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not event.done():
        event.cancel()
        return False
    return event.result()


def _tell_supervisord(words: bytes) -> None:
    os.write(sys.stdout.fileno(), words)


async def _event(events: asyncio.StreamReader) -> bool:
    """Read an event; False if supervisord has exited."""
    try:
        headers = dict(word.split(":", 1) for word in (await events.readuntil()).decode().split())
        await events.readexactly(int(headers["len"]))
    except asyncio.IncompleteReadError:
        return False
    return True


if __name__ == "__main__":
    run_process(GUARDIAN, life)
