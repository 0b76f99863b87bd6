"""The control process' server within a test: the real application on a free port, without a fleet around it."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleet.config import Settings
from fleet.control.health.observer import Observer
from fleet.control.web.app import Views, create_app
from fleet.control.web.streams import Pictures
from fleet.process.http_server import Server, listen_on
from tests.waiting import wait_for

#: Nothing listens there.
NOWHERE = "127.0.0.1:9"


def control_settings(folder: Path, **settings: Any) -> Settings:
    """Settings of a machine whose Temporal and backend are away; its state is in ``folder``."""
    (folder / "logs").mkdir(exist_ok=True)
    return Settings(API_BASE_URL=f"http://{NOWHERE}", TEMPORAL_HOST=NOWHERE, state_dir=folder, **settings)


@contextmanager
def served_control(settings: Settings) -> Iterator[str]:
    """Serve until the block ends; yields the base address."""
    observer = Observer(settings)
    server = Server(create_app(Views(settings, observer, Pictures(settings, observer))))
    listening = listen_on("127.0.0.1", 0, "control", "")
    thread = threading.Thread(target=asyncio.run, args=(server.serve([listening]),), daemon=True)
    thread.start()
    wait_for("the server is up", lambda: server.started)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
