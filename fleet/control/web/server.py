"""The control process: its HTTP server, and what runs beside it."""

import asyncio
from typing import Any

from loguru import logger

from fleet.config import Settings
from fleet.control.health.observer import Observer
from fleet.control.supervision.healing import run_guardian_healing
from fleet.control.supervision.supervisord_home import Home
from fleet.control.web.app import Views, create_app
from fleet.control.web.streams import Pictures
from fleet.exit_codes import EXIT_FAILED, EXIT_OK
from fleet.process.http_server import Server, listen_on
from fleet.process.liveness import Liveness
from fleet.process.metrics import Metrics
from fleet.process.stop_signals import stop_on_signal


async def serve(settings: Settings, name: str, liveness: Liveness, metrics: Metrics) -> int:
    """Serve until a stop signal comes; returns the exit status.

    Raises:
        SettingsError: the port is taken or the address is not this machine's.
    """
    stop = asyncio.Event()
    observer = Observer(settings)
    pictures = Pictures(settings, observer)
    server = Server(create_app(Views(settings, observer, pictures, metrics.login)))
    remedy = "free the port, or set FLEET_CONTROL_PORT and FLEET_CONTROL_HOST"
    listening = listen_on(settings.control_host, settings.control_port, "control", remedy)
    metrics.serves_page()
    with stop_on_signal(stop), listening:
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
