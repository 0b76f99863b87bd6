"""``python -m workers.logs``: merges the logs of this machine's processes into ``worker_production.log``."""

import asyncio

from loguru import logger

from fleet.config import Settings
from fleet.control.logs.merged_log import Merger
from fleet.control.supervision.supervisord_home import Home
from fleet.errors import OperationError
from fleet.exit_codes import EXIT_OK
from fleet.process.lifecycle import run_process, wait_for_event
from fleet.process.liveness import Liveness
from fleet.process.metrics import Metrics
from fleet.process.stop_signals import stop_on_signal

_EACH_SECONDS = 0.5
_AFTER_TROUBLE_SECONDS = 10.0


async def life(settings: Settings, name: str, liveness: Liveness, metrics: Metrics) -> int:
    """Merge until a stop signal comes."""
    stop = asyncio.Event()
    rotation = int(settings.log_rotation_mb * 1_000_000)
    merger = Merger(settings.logs, Home.of(settings).state, rotation, settings.log_backups, metrics.lines_dropped)
    logger.info("{} merges the logs into {}", name, merger.path)
    liveness.serving()
    wait = _EACH_SECONDS
    with stop_on_signal(stop):
        while not await wait_for_event(stop, wait):
            try:
                await asyncio.to_thread(merger.merge)
                wait = _EACH_SECONDS
            except OperationError as error:
                logger.error("{}", error)
                wait = _AFTER_TROUBLE_SECONDS
    return EXIT_OK


if __name__ == "__main__":
    run_process("logs", life)
