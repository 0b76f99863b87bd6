"""Replaces processes that stand still or poll nothing: it kills them, and supervisord starts new ones.

Two look after each other on every machine: ``guardian``, an event listener of supervisord's, heals all processes
but itself; the control process heals the guardian.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from loguru import logger

from fleet.control.supervision.process_health import Watch
from fleet.control.supervision.supervisord_client import ProcessStatus, Supervisor, SupervisorAway
from fleet.control.supervision.supervisord_home import Home
from fleet.errors import OperationError

GUARDIAN = "guardian"
_LOOK_SECONDS = 5.0


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):  # it has left by itself
        os.kill(pid, signal.SIGKILL)


class Healer:
    """Looks at the processes that are its own to heal; ``kill`` ends one."""

    def __init__(
        self,
        watch: Watch,
        processes: Callable[[], list[ProcessStatus]],
        mine: Callable[[ProcessStatus], bool],
        kill: Callable[[int], None] = _kill,
    ) -> None:
        self._watch = watch
        self._processes = processes
        self._mine = mine
        self._kill = kill
        self._blind = False

    @classmethod
    def of(cls, home: Home, mine: Callable[[ProcessStatus], bool]) -> Self:
        """For the processes of one machine."""
        return cls(Watch(home), Supervisor(home.socket).processes, mine)

    def look(self) -> None:
        """Replace whoever needs it; nobody while signs of life cannot be given, as on a disk that fails."""
        if not self._sees():
            return
        try:
            processes = self._processes()
        except SupervisorAway:
            return
        except OperationError as error:
            logger.warning("the processes cannot be seen: {}", error)
            return
        for process in processes:
            if self._mine(process) and (why := self._watch.patient(process)) and process.pid is not None:
                logger.error("🚑 PROCESS REPLACED: {} (pid {}): {}", process.process, process.pid, why)
                self._kill(process.pid)

    def _sees(self) -> bool:
        blind = not self._watch.can_see()
        if blind and not self._blind:
            logger.error(
                "the folder of the pulses cannot be written: nobody is replaced until it can be. Remedy: make "
                "room, or see to its rights"
            )
        self._blind = blind
        return not blind


async def run_guardian_healing(home: Home) -> None:
    """What the control process does beside serving. Never returns."""
    healer = Healer.of(home, lambda process: process.program == GUARDIAN)
    while True:
        await asyncio.to_thread(healer.look)
        await asyncio.sleep(_LOOK_SECONDS)
