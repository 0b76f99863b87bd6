"""Takes snapshots of this machine's fleet for all callers: on request, and no more often than needed."""

import asyncio
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from loguru import logger
from temporalio.client import Client
from temporalio.service import RPCError

from fleet.config import Settings
from fleet.control.health.metric_totals import Counted, read_counted
from fleet.control.health.pipeline_runs import Runs, runs_of
from fleet.control.health.status import TEMPORAL_SECONDS, FleetStatus, health_client, status_of
from fleet.control.machines.last_seen import LastSeen
from fleet.control.supervision.process_health import liveness_of
from fleet.control.supervision.supervisord_home import Home
from fleet.errors import TemporalUnavailable
from fleet.process.liveness import LivenessRecord
from fleet.process.machine_id import identity_on, machine_id
from fleet.process.temporal_connection import connect_once

#: Listing the pipelines is the most expensive request. After one, whether it succeeded or failed, the next comes
#: no sooner than so many times the time that it took, within these bounds.
_RUNS_TIMES, _MIN_RUNS_SECONDS, _MAX_RUNS_SECONDS = 20.0, 1.0, 5.0


@dataclass(frozen=True)
class Snapshot:
    """The state at one time (unix seconds). ``runs`` is None if Temporal did not answer; ``disks`` has free and
    total bytes by folder."""

    at: float
    status: FleetStatus
    counted: Counted
    liveness_records: dict[str, LivenessRecord | None] = field(default_factory=dict)
    runs: Runs | None = None
    disks: dict[str, tuple[int, int]] = field(default_factory=dict)


class Observer:
    """One observer for all callers; callers that ask at the same time share a snapshot."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._home = Home.of(settings)
        self._client: Client | None = None
        self._connecting: asyncio.Task[Client] | None = None
        self._backend = health_client(settings)  # too expensive to create for each snapshot
        self._looking: asyncio.Task[Snapshot] | None = None
        self._snapshot: Snapshot | None = None
        self._runs: Runs | None = None
        self._list_again_at = 0.0
        self._budgets_answered = False
        self._last_seen = LastSeen(settings.state_dir)

    async def client(self) -> Client | None:
        """The connection to Temporal; None if there is none yet."""
        try:
            return await self._connected()
        except TemporalUnavailable:
            return None

    async def _connected(self) -> Client:
        """The connection to Temporal, which all callers share.

        Raises:
            TemporalUnavailable: there is none, and none can be made.
        """
        if self._client is None:
            if self._connecting is None or self._connecting.done():
                # It may be the first process of this machine, which has no id before.
                identity = identity_on(machine_id(self._settings.state_dir), "fleet")
                connecting = connect_once(self._settings, identity=identity)
                self._connecting = asyncio.create_task(connecting, name="connect")
            self._client = await asyncio.shield(self._connecting)
        return self._client

    async def snapshot(self, max_age_seconds: float, patience_seconds: float | None = None) -> Snapshot:
        """A snapshot of at most that age, or a new one. With ``patience_seconds``, the last snapshot is returned
        if a server delays the new one for longer than that."""
        if self._snapshot is not None and time.time() - self._snapshot.at <= max_age_seconds:
            return self._snapshot
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._see(), name="look")
        looking, last = self._looking, self._snapshot
        if last is None or patience_seconds is None:
            return await asyncio.shield(looking)
        done, _ = await asyncio.wait({looking}, timeout=patience_seconds)
        return looking.result() if done else last

    async def _see(self) -> Snapshot:
        self._snapshot = await self._look()
        return self._snapshot

    async def _look(self) -> Snapshot:
        at = time.time()
        client = self._client
        status, (counted, disks), runs = await asyncio.gather(
            status_of(self._settings, self._connected, self._backend, budgets_answered=self._budgets_answered),
            asyncio.to_thread(self._look_into_files),
            self._look_at_runs(client),
        )
        if status.temporal.ok:
            self._budgets_answered = bool(status.budgets)
        else:
            # It may be connecting for minutes; a new one connects as soon as the server is back.
            self._client = None
        if status.temporal.ok and client is None:
            self._list_again_at = 0.0  # a server that is back is listed at once
            runs = await self._look_at_runs(self._client)
        liveness_records = await asyncio.to_thread(self._liveness_records, status)
        await asyncio.to_thread(self._last_seen.note, status.machines, at)
        return Snapshot(at, status, counted, liveness_records, runs, disks)

    async def _look_at_runs(self, client: Client | None) -> Runs | None:
        if client is None:
            return None
        began = time.monotonic()
        if began >= self._list_again_at:
            try:
                async with asyncio.timeout(TEMPORAL_SECONDS):
                    self._runs = await runs_of(client)
            except (RPCError, TimeoutError) as error:
                logger.debug("the pipelines cannot be listed: {}", error)
                self._runs = None
            ended = time.monotonic()
            pause = min(max((ended - began) * _RUNS_TIMES, _MIN_RUNS_SECONDS), _MAX_RUNS_SECONDS)
            self._list_again_at = ended + pause  # whether or not there is a list
        return self._runs

    def _look_into_files(self) -> tuple[Counted, dict[str, tuple[int, int]]]:
        state, logs = self._settings.state_dir, self._settings.logs
        return read_counted(state), {"state": _disk(state), "logs": _disk(logs)}

    def _liveness_records(self, status: FleetStatus) -> dict[str, LivenessRecord | None]:
        return {process.process: liveness_of(self._home, process) for process in status.processes}


def _disk(folder: Path) -> tuple[int, int]:
    found = shutil.disk_usage(folder)
    return found.free, found.total
