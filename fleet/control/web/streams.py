"""Pushes the page's state to all viewers; it is computed once, however many viewers there are."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field, replace

from loguru import logger

from fleet.config import Settings
from fleet.control.health.observer import Observer, Snapshot
from fleet.control.machines.ask_machines import Asking
from fleet.control.web.history import History
from fleet.control.web.page_state import pipelines_of, state_of, totals_of, waiting_in
from fleet.control.web.pipeline_detail import progress_of, why_of
from fleet.control.web.recent_errors import Troubles
from fleet.control.web.shapes import PipelineProgress

EACH_SECONDS = 2.0
#: The interval of updates without viewers, so that the last hour is known.
UNWATCHED_SECONDS = 10.0
#: Each viewer holds a connection, and is sent the whole state every two seconds.
MAX_VIEWERS = 50
_PROGRESS_SECONDS, _PROGRESS_KEPT_SECONDS, _PROGRESS_AT_ONCE, _MAX_KEPT = 2.0, 3.0, 8, 5000


@dataclass
class Pictures:
    """The latest state as JSON text. :meth:`run_pictures` updates it, every two seconds while there are
    viewers."""

    settings: Settings
    observer: Observer
    state: str = ""
    pipelines: str = '{"at":0,"running":0,"listed":[],"ended":[]}'
    painted_at: float = 0.0
    _viewers: int = 0
    _called: asyncio.Event = field(default_factory=asyncio.Event)
    _fresh: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        self._history = History.load(self.settings.state_dir)
        self._troubles = Troubles(self.settings.logs)
        self._asking = Asking(self.settings)

    async def run_pictures(self) -> None:
        """Update the state again and again. Never returns."""
        while True:
            began = time.monotonic()
            await self.paint(watched=self._viewers > 0)
            wait = (EACH_SECONDS if self._viewers else UNWATCHED_SECONDS) - (time.monotonic() - began)
            self._called.clear()
            try:
                async with asyncio.timeout(max(wait, 0.1)):
                    await self._called.wait()
            except TimeoutError:
                continue

    async def paint(self, *, watched: bool = True) -> None:
        """Take a snapshot and compute the state from it. The other machines are asked only if there are
        viewers."""
        snapshot = await self.observer.snapshot(EACH_SECONDS / 2, EACH_SECONDS)
        if watched:
            machines = await self._asking.told(snapshot.status.machines)
            snapshot = replace(snapshot, status=replace(snapshot.status, machines=machines))
        state, pipelines = await asyncio.to_thread(self._draw, snapshot)
        async with self._fresh:
            self.state, self.painted_at = state, snapshot.at
            self.pipelines = pipelines or self.pipelines
            self._fresh.notify_all()

    def _draw(self, snapshot: Snapshot) -> tuple[str, str]:
        if self._history.note(snapshot.at, totals_of(snapshot.counted), waiting_in(snapshot)):
            self._history.save(self.settings.state_dir)
        state = state_of(self.settings, snapshot, self._history, self._troubles.look())
        return dumped(state), "" if snapshot.runs is None else dumped(pipelines_of(snapshot.runs))

    async def latest(self) -> None:
        """Update the state if it is more than two seconds old."""
        if time.time() - self.painted_at > EACH_SECONDS:
            await self.paint()

    @property
    def is_full(self) -> bool:
        """Whether there are as many viewers as are allowed."""
        return self._viewers >= MAX_VIEWERS

    def present(self) -> str:
        """The events of the latest state."""
        return _event("state", self.state) + _event("pipelines", self.pipelines)

    async def events(self) -> AsyncGenerator[str, None]:
        """Server-sent events from now on: ``state`` at each update, ``pipelines`` when they have changed."""
        self._viewers += 1
        self._called.set()
        shown, seen = "", 0.0
        try:
            if not self.state:
                await self.latest()
            while True:
                if self.painted_at != seen:
                    seen = self.painted_at
                    yield _event("state", self.state)
                    if self.pipelines != shown:
                        shown = self.pipelines
                        yield _event("pipelines", shown)
                async with self._fresh:
                    await self._fresh.wait_for(lambda: self.painted_at != seen)  # noqa: B023
        finally:
            self._viewers -= 1


def dumped(value: Mapping[str, object]) -> str:
    """A JSON object on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _event(name: str, data: str) -> str:
    return f"event: {name}\ndata: {data}\n\n"


class Progresses:
    """The progress of pipelines, requested a few at a time and cached for a moment."""

    def __init__(self, observer: Observer, settings: Settings) -> None:
        self._observer = observer
        self._settings = settings
        self._at_once = asyncio.Semaphore(_PROGRESS_AT_ONCE)
        self._known: dict[tuple[str, str], tuple[float, PipelineProgress | None]] = {}

    async def of(self, workflow_id: str, run_id: str) -> PipelineProgress | None:
        """The progress, cached for at most three seconds; None if the pipeline does not answer."""
        known = self._known.get((workflow_id, run_id))
        if known is not None and time.monotonic() - known[0] < _PROGRESS_KEPT_SECONDS:
            return known[1]
        async with self._at_once:
            client = await self._observer.client()
            found = None
            if client is not None:
                found = await progress_of(client, workflow_id, run_id, _PROGRESS_SECONDS)
                if found is not None and found["state"] == "running" and not found["running"]:
                    status = (await self._observer.snapshot(EACH_SECONDS)).status
                    found["why"] = await why_of(client, self._settings, status, workflow_id, run_id)
        if len(self._known) >= _MAX_KEPT:
            logger.debug("forgetting how far {} pipelines were", len(self._known))
            self._known.clear()
        self._known[workflow_id, run_id] = (time.monotonic(), found)
        return found
