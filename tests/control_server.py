"""The control process's server within a test: the real application on a free port, without a fleet around it."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from fleet.budgets.messages import BudgetStatus, KnownMachine, LimitStatus
from fleet.config import Settings
from fleet.control.health.observer import Observer, Snapshot
from fleet.control.health.status import FleetStatus
from fleet.control.machines.other_machines import OtherMachine, Told
from fleet.control.supervision.process_health import QueueVitals, Vitals
from fleet.control.supervision.supervisord_client import ProcessStatus
from fleet.control.web.app import Views, create_app
from fleet.control.web.streams import Pictures
from fleet.execution.backend_client import ToldProject
from fleet.process.http_server import Server, listen_on
from tests.waiting import wait_for

#: Nothing listens there.
NOWHERE = "127.0.0.1:9"


def control_settings(folder: Path, temporal: str = NOWHERE, **settings: Any) -> Settings:
    """Settings of a machine whose backend is away, and its Temporal unless there is one; its state is in
    ``folder``."""
    (folder / "logs").mkdir(exist_ok=True)
    return Settings(API_BASE_URL=f"http://{NOWHERE}", TEMPORAL_HOST=temporal, state_dir=folder, **settings)


def control_app(settings: Settings, kind: type[Observer] = Observer) -> ASGIApp:
    """The application, for what an observer of that ``kind`` sees."""
    observer = kind(settings)
    return create_app(Views(settings, observer, Pictures(settings, observer)))


@contextmanager
def served_control(settings: Settings, kind: type[Observer] = Observer) -> Iterator[str]:
    """Serve what an observer of that ``kind`` sees until the block ends; yields the base address."""
    server = Server(control_app(settings, kind))
    listening = listen_on("127.0.0.1", 0, "control", "")
    thread = threading.Thread(target=asyncio.run, args=(server.serve([listening]),), daemon=True)
    thread.start()
    wait_for("the server is up", lambda: server.started)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)


class HealthyFleet(Observer):
    """Sees a fleet without problems, whatever there is, and looks once. Its Temporal is that of the settings."""

    _seen: Snapshot | None = None

    async def snapshot(self, max_age_seconds: float, patience_seconds: float | None = None) -> Snapshot:
        if self._seen is None:
            found = await super().snapshot(max_age_seconds, patience_seconds)
            records = {"pipeline-0": None}
            self._seen = replace(found, status=healthy_status(found.status), liveness_records=records)
        return replace(self._seen, at=time.time())


def healthy_status(status: FleetStatus) -> FleetStatus:
    """Every part of a status is there, and nothing is wrong."""
    limit = LimitStatus("requests", 60.0, 0.5, 1.0, 2.0, True)
    budgets = {
        queue.queue: BudgetStatus(
            queue.queue, 1.0, "closed", "a limit", True, 3, 2, 1, [limit], machines=[KnownMachine("vm1+a", 1.0)]
        )
        for queue in status.queues
        if queue.queue.startswith("llm-")
    }
    vitals = Vitals("serving", 0.1, 0.0, True, True, 0, {"pipeline": QueueVitals(1, False, 0.5)})
    told = Told("1.0", 5, {"pipeline-0": "RUNNING"}, ["a problem"], {"demo": "abc"})
    return replace(
        status,
        temporal=replace(status.temporal, ok=True, problem=""),
        backend=replace(status.backend, ok=True, problem="", projects={"demo": ToldProject("abc", [])}),
        processes=[ProcessStatus("pipeline", "pipeline-0", "RUNNING", 7, 5)],
        queues=[replace(queue, pollers=1, backlog=0, backlog_age_seconds=0.0) for queue in status.queues],
        supervisor_problem="",
        budgets=budgets,
        complaints=[],
        vitals={"pipeline-0": vitals},
        machines=[OtherMachine("vm2", "b", ["pipeline-0"], 1.0, {"pipeline": 1}, "1.0", told=told)],
    )
