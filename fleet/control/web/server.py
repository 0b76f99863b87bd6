"""The control process's HTTP server: uvicorn with the fleet's own signal handling."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from loguru import logger

from fleet.config import Settings
from fleet.control.health.observer import Observer
from fleet.control.supervision.healing import run_guardian_healing
from fleet.control.supervision.supervisord_home import Home
from fleet.control.web.app import Views, create_app
from fleet.control.web.streams import Pictures
from fleet.errors import SettingsError
from fleet.exit_codes import EXIT_FAILED, EXIT_OK
from fleet.process.liveness import Liveness
from fleet.process.metrics import Metrics
from fleet.process.stop_signals import stop_on_signal

_GRACE_SECONDS = 5


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: :func:`serve` handles the signals."""
        yield


async def serve(settings: Settings, name: str, liveness: Liveness, metrics: Metrics) -> int:
    """Serve until a stop signal comes; returns the exit status.

    Raises:
        SettingsError: the port is taken or the address is not this machine's.
    """
    stop = asyncio.Event()
    observer = Observer(settings)
    pictures = Pictures(settings, observer)
    config = uvicorn.Config(
        create_app(Views(settings, observer, pictures)),
        access_log=False,
        log_config=None,
        lifespan="off",
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = _Server(config)
    with stop_on_signal(stop), _listening(settings) as listening:
        liveness.serving()
        beside: set[asyncio.Task[Any]] = {
            asyncio.create_task(run_guardian_healing(Home.of(settings)), name="heal"),
            asyncio.create_task(pictures.run_pictures(), name="paint"),
        }
        serving = asyncio.create_task(server.serve(sockets=[listening]), name="serve")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        logger.info("{} serves http://{}:{}", name, settings.control_host, settings.control_port)
        done, _ = await asyncio.wait({serving, stopping, *beside}, return_when=asyncio.FIRST_COMPLETED)
        liveness.draining()
        for task in beside:
            task.cancel()
        if not stop.is_set():
            stopping.cancel()
            for task in done:
                error = task.exception()
                logger.opt(exception=error).error("{} ended by itself: {}", task.get_name(), error or "no error")
            return EXIT_FAILED
        server.should_exit = True
        await serving
    logger.info("{} has ended", name)
    return EXIT_OK


def _listening(settings: Settings) -> socket.socket:
    host, port = settings.control_host, settings.control_port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise SettingsError(
            f"the control process cannot listen on {host}:{port} ({error.strerror}). Remedy: free the port, or "
            "set FLEET_CONTROL_PORT and FLEET_CONTROL_HOST"
        ) from None
