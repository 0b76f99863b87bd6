"""The lifecycle of a process: settings, log, liveness record, work, exit.

The part that uses Temporal is in fleet/process/runtime.py; a process that does not use Temporal does not load it.
"""

import asyncio
import gc
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from loguru import logger

from fleet.config import Settings, load_settings
from fleet.errors import FleetError, SettingsError
from fleet.exit_codes import EXIT_BAD_SETTINGS, EXIT_FAILED, EXIT_OK
from fleet.process.file_rights import withhold_from_others
from fleet.process.liveness import Liveness
from fleet.process.logging import setup_logging
from fleet.process.metrics import Metrics
from fleet.process.process_id import end_with_parent
from fleet.terminal import write_error

if TYPE_CHECKING:
    from temporalio.runtime import MetricBuffer

#: The work of a process: takes the settings, the process's name, its liveness and its metrics, and returns the
#: exit status.
Life = Callable[[Settings, str, Liveness, Metrics], Coroutine[None, None, int]]


def process_name(program: str) -> str:
    """The name of this process: supervisord's name for it, or the program's name if it was started by hand."""
    return os.environ.get("SUPERVISOR_PROCESS_NAME", program)


def die_with_parent() -> None:
    """Have the kernel send SIGTERM to this process when supervisord dies for any reason.

    Otherwise the next supervisord would start a second set of workers beside this one. Does nothing in a process
    that supervisord did not start.
    """
    if "SUPERVISOR_ENABLED" not in os.environ:
        return
    end_with_parent()
    if os.getppid() == 1:
        sys.exit("supervisord is gone already")


async def wait_for_event(event: asyncio.Event, seconds: float) -> bool:
    """Wait for the event; returns whether it was set before the time was over."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


@contextmanager
def loading() -> Iterator[None]:
    """Disable garbage collection while modules are loaded, and exempt the objects that loading created from later
    collections."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


async def _living(
    life: Life, settings: Settings, name: str, metrics: Metrics, buffer: "MetricBuffer | None"
) -> int:
    liveness = Liveness(settings, name, metrics, buffer)
    liveness.start()
    status = EXIT_FAILED
    try:
        status = await life(settings, name, liveness, metrics)
    finally:
        liveness.end(well=status == EXIT_OK)
    return status


def run_process(
    program: str,
    life: Life,
    metrics_of_sdk: "Callable[[], MetricBuffer] | None" = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> NoReturn:
    """Run a process of the fleet from start to exit; ``life`` returns the exit status.

    ``metrics_of_sdk`` makes Temporal's SDK deliver its metrics to the returned buffer; None in a process that does
    not use the SDK. ``loop_factory`` creates the event loop; None: asyncio's own.

    Exits through ``os._exit``: a Temporal client has been seen to crash the interpreter during shutdown, after all
    work was done, which would make the exit status wrong.
    """
    gc.freeze()  # objects created by imports are never freed
    gc.enable()
    withhold_from_others()
    try:
        # What does not use Temporal need not load its SDK to know where it is.
        settings = load_settings() if metrics_of_sdk is not None else load_settings(temporal_config=False)
        name = process_name(program)
        metrics = Metrics.of_process(settings.state_dir, name) if settings.metrics else Metrics()
        setup_logging(settings, name, metrics.lines_dropped)
        for warning in settings.warnings:
            logger.warning("{}", warning)
        die_with_parent()
        metrics.started(program, name)
        buffer = metrics_of_sdk() if metrics_of_sdk is not None else None
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            status = runner.run(_living(life, settings, name, metrics, buffer))
    except SettingsError as error:
        write_error(f"{program}: {error}")  # there is no log yet
        status = EXIT_BAD_SETTINGS
    except FleetError as error:
        logger.error("{}", error)
        status = EXIT_FAILED
    except Exception:
        logger.exception("{} ended by an error of its own", program)
        status = EXIT_FAILED
    logger.complete()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
