"""Lets a test block any process of a fleet: with this folder on PYTHONPATH, SIGUSR1 blocks the event
loop, and SIGUSR2 ends the pollers and leaves the rest alive."""

import gc
import signal
import time
from types import FrameType


def block(number: int, frame: FrameType | None) -> None:
    time.sleep(3600)


def end_pollers(number: int, frame: FrameType | None) -> None:
    from temporalio.worker import Worker

    for worker in [item for item in gc.get_objects() if isinstance(item, Worker)]:
        worker._bridge_worker.initiate_shutdown()


signal.signal(signal.SIGUSR1, block)
signal.signal(signal.SIGUSR2, end_pollers)
