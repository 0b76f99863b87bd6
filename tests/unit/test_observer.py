"""How often the pipelines are listed, when the budgets are asked, and as whom."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from fleet.config import Settings
from fleet.control.health import observer
from fleet.control.health.pipeline_runs import Runs
from fleet.process.machine_id import known_id, place_of


class World:
    """A clock, and a server that takes ``took`` seconds to list its pipelines."""

    def __init__(self, took: float) -> None:
        self.now, self.took, self.lists = 100.0, took, 0
        self.fails = False

    def monotonic(self) -> float:
        return self.now

    async def runs_of(self, client: Any) -> Runs:
        self.lists += 1
        self.now += self.took
        if self.fails:
            raise RPCError("deadline exceeded", RPCStatusCode.DEADLINE_EXCEEDED, b"")
        return Runs(self.now)


@pytest.mark.parametrize(("took", "lists"), [(0.01, 10), (0.15, 5), (0.7, 4)])
async def test_pipelines_are_listed_at_each_look_unless_that_takes_long(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, took: float, lists: int
) -> None:
    """Ten looks, two seconds apart, as with a viewer of the page."""
    world = World(took)
    monkeypatch.setattr(observer, "runs_of", world.runs_of)
    monkeypatch.setattr(observer.time, "monotonic", world.monotonic)
    looking = observer.Observer(Settings(API_BASE_URL="http://localhost:8000", state_dir=tmp_path))
    for look in range(10):
        world.now = 100.0 + 2.0 * look
        assert await looking._look_at_runs(cast(Client, object())) is not None
    assert world.lists == lists


@pytest.mark.parametrize("took", [0.7, 8.0])
async def test_a_list_that_failed_is_not_asked_for_at_each_look(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, took: float
) -> None:
    """Four looks, each two seconds after the end of the one before, at a server that fails; then it lists."""
    world = World(took)
    world.fails = True
    monkeypatch.setattr(observer, "runs_of", world.runs_of)
    monkeypatch.setattr(observer.time, "monotonic", world.monotonic)
    looking = observer.Observer(Settings(API_BASE_URL="http://localhost:8000", state_dir=tmp_path))
    for _ in range(4):
        assert await looking._look_at_runs(cast(Client, object())) is None
        world.now += 2.0
    assert world.lists == 2
    world.fails = False
    world.now += 5.0
    assert await looking._look_at_runs(cast(Client, object())) is not None


async def test_budgets_that_answered_are_asked_again_after_a_restart_of_the_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They answer, the server is away, it is back and they do not answer."""
    looks = iter([(True, {"llm-openai": "parked"}), (False, {}), (True, {}), (True, {})])
    asked: list[bool] = []

    async def status_of(*_: Any, budgets_answered: bool) -> Any:
        asked.append(budgets_answered)
        up, budgets = next(looks)
        return SimpleNamespace(temporal=SimpleNamespace(ok=up), budgets=budgets, processes=[], machines=[])

    monkeypatch.setattr(observer, "status_of", status_of)
    settings = Settings(API_BASE_URL="http://localhost:8000", state_dir=tmp_path)
    settings.logs.mkdir()
    looking = observer.Observer(settings)
    for _ in range(4):
        await looking.snapshot(-1.0)
    assert asked == [False, True, True, False]


async def test_a_control_process_that_comes_first_knows_its_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without the machine's id it would list the processes of its own machine as another's."""
    identities: list[str] = []

    async def connect_once(settings: Settings, *, identity: str = "") -> object:
        identities.append(identity)
        return object()

    monkeypatch.setattr(observer, "connect_once", connect_once)
    assert known_id(tmp_path) == "", "no process has begun here yet"
    looking = observer.Observer(Settings(API_BASE_URL="http://localhost:8000", state_dir=tmp_path))
    assert await looking.client() is not None
    (place,) = map(place_of, identities)
    assert place is not None and place.machine == known_id(tmp_path) != ""
