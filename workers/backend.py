"""``python -m workers.backend``: serves the projects of FLEET_PROJECTS_DIR as this machine's Backend API."""

import asyncio

from loguru import logger

from fleet.config import Settings
from fleet.devstack.backend.keys import key_variable, real_key
from fleet.errors import SettingsError
from fleet.execution.backend_connection import BackendCredentials
from fleet.exit_codes import EXIT_FAILED, EXIT_OK
from fleet.process.http_server import Server, listen_on
from fleet.process.lifecycle import run_process, wait_for_event
from fleet.process.liveness import Liveness
from fleet.process.metrics import Metrics
from fleet.process.stop_signals import stop_on_signal
from fleet.projects.backend_app import create_app
from fleet.projects.served_projects import ServedProjects

_LOOPBACK = "127.0.0.1"
_READ_SECONDS = 5.0


async def life(settings: Settings, name: str, liveness: Liveness, metrics: Metrics) -> int:
    """Serve until a stop signal comes; a broken file is logged soon after it was changed."""
    if settings.projects_dir is None:
        raise SettingsError("FLEET_PROJECTS_DIR is not set. Remedy: set it to a folder of projects")
    stop = asyncio.Event()
    projects = ServedProjects(settings.projects_dir.absolute(), settings.state_dir.absolute() / "projects")
    remedy = "free the port, or set FLEET_PROJECTS_PORT"
    listening = listen_on(_LOOPBACK, settings.projects_port, "backend", remedy)
    bearer = BackendCredentials.of(settings).headers().get("Authorization", "")
    server = Server(create_app(projects, real_key, bearer.removeprefix("Bearer "), key_variable))
    with stop_on_signal(stop), listening:
        serving = asyncio.create_task(server.serve(sockets=[listening]), name="serve")
        logger.info("{} serves {} at http://{}:{}", name, settings.projects_dir, _LOOPBACK, settings.projects_port)
        liveness.serving()
        while not serving.done():
            await asyncio.to_thread(projects.all)
            if await wait_for_event(stop, _READ_SECONDS):
                break
        liveness.draining()
        server.should_exit = True
        await serving
    return EXIT_OK if stop.is_set() else EXIT_FAILED


if __name__ == "__main__":
    run_process("backend", life)
