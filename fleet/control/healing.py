"""Replaces processes that stand still or poll nothing: it kills them, and supervisord starts new ones.

Two look after each other on every machine: ``guardian``, an event listener of supervisord's, heals all processes
but itself; the control process heals the guardian.
"""

import asyncio
import os
import signal
from collections.abc import Callable

from loguru import logger

from fleet.control.home import Home
from fleet.control.pulses import Watch
from fleet.control.supervisor import ProcessStatus, Supervisor, SupervisorAway
from fleet.errors import OperationError

GUARDIAN = "guardian"
_LOOK_SECONDS = 5.0


class Healer:
    """Looks at the processes that are its own to heal."""

    def __init__(self, home: Home, mine: Callable[[ProcessStatus], bool]) -> None:
        self._supervisor = Supervisor(home.socket)
        self._watch = Watch(home)
        self._mine = mine

    def look(self) -> None:
        """Replace whoever needs it."""
        try:
            processes = self._supervisor.processes()
        except SupervisorAway:
            return
        except OperationError as error:
            logger.warning("the processes cannot be seen: {}", error)
            return
        for process in processes:
            if self._mine(process) and (why := self._watch.patient(process)) and process.pid is not None:
                logger.error("🚑 PROCESS REPLACED: {} (pid {}): {}", process.process, process.pid, why)
                _kill(process.pid)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it has left by itself


async def heal_guardian_for_ever(home: Home) -> None:
    """What the control process does beside serving. Never returns."""
    healer = Healer(home, lambda process: process.program == GUARDIAN)
    while True:
        await asyncio.to_thread(healer.look)
        await asyncio.sleep(_LOOK_SECONDS)
