"""Replaces processes that are frozen or poll nothing: it kills them, and supervisord starts new ones.

On every machine two processes watch each other: ``guardian``, an event listener of supervisord, heals all
processes except itself; the control process heals the guardian.
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
    with suppress(ProcessLookupError):  # the process has ended by itself
        os.kill(pid, signal.SIGKILL)


class Healer:
    """Checks the processes that it is responsible for; ``kill`` ends one."""

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
        """A healer for processes of one machine."""
        return cls(Watch(home), Supervisor(home.socket).processes, mine)

    def look(self) -> None:
        """Replace the processes that need it; none while signs of life cannot be written, as on a failing disk."""
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
    """Heal the guardian; runs in the control process beside the server. Never returns."""
    healer = Healer.of(home, lambda process: process.program == GUARDIAN)
    while True:
        await asyncio.to_thread(healer.look)
        await asyncio.sleep(_LOOK_SECONDS)
