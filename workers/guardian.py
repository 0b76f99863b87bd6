"""``python -m workers.guardian``: replaces frozen processes and logs deaths; an event listener of supervisord.

Source: supervisord.org/events.html. Standard output is reserved for supervisord's protocol.
"""

import asyncio
import sys

from supervisor import childutils

from fleet.config import Settings
from fleet.control.supervision.deaths import Deaths
from fleet.control.supervision.healing import GUARDIAN, Healer
from fleet.control.supervision.supervisord_home import Home
from fleet.exit_codes import EXIT_OK
from fleet.process.lifecycle import run_process
from fleet.process.liveness import Liveness
from fleet.process.metrics import Metrics


async def life(settings: Settings, name: str, liveness: Liveness, metrics: Metrics) -> int:
    """Check the processes at each tick, until supervisord exits."""
    home = Home.of(settings)
    healer, deaths = Healer.of(home, lambda process: process.program != GUARDIAN), Deaths(home)
    liveness.serving()
    while await asyncio.to_thread(_tick):
        await asyncio.to_thread(deaths.look)
        await asyncio.to_thread(healer.look)
        childutils.listener.ok(sys.stdout)  # type: ignore[no-untyped-call]
    return EXIT_OK


def _tick() -> bool:
    """Wait for supervisord's next event; False if supervisord has exited."""
    childutils.listener.ready(sys.stdout)  # type: ignore[no-untyped-call]
    head = sys.stdin.readline()
    if not head:
        return False
    headers = dict(word.split(":", 1) for word in head.split())
    sys.stdin.read(int(headers["len"]))
    return True


if __name__ == "__main__":
    run_process(GUARDIAN, life)
