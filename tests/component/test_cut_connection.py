"""A connection to Temporal that was cut by dropped packets: the next attempt to connect waits for minutes."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.config import Settings, load_settings
from fleet.control.health.observer import Observer
from tests.relay import Relay, port_that_drops_connections
from tests.temporal import running_temporal

#: More than a look may take; an attempt to connect takes two minutes to be given up.
ANSWER_SECONDS = 30.0


@pytest.fixture
def temporal_port() -> Iterator[int]:
    with running_temporal() as address:
        yield int(address.rpartition(":")[2])


def settings_of(port: int, state: Path) -> Settings:
    return load_settings(
        API_BASE_URL="http://127.0.0.1:9", TEMPORAL_HOST=f"127.0.0.1:{port}", state_dir=state, log_dir=state
    )


async def test_a_look_ends_although_the_server_is_cut_off_and_succeeds_as_soon_as_it_is_back(
    temporal_port: int, tmp_path: Path
) -> None:
    relay = Relay(temporal_port)
    observer = Observer(settings_of(relay.port, tmp_path))
    assert (await observer.snapshot(0.0)).status.temporal.ok
    relay.close()
    with port_that_drops_connections(relay.port):
        for _ in range(2):
            cut_off = await asyncio.wait_for(observer.snapshot(0.0), ANSWER_SECONDS)
            assert not cut_off.status.temporal.ok and "Temporal" in cut_off.status.temporal.problem
    back = Relay(temporal_port, relay.port)
    assert (await asyncio.wait_for(observer.snapshot(0.0), ANSWER_SECONDS)).status.temporal.ok
    back.close()


async def test_the_page_and_the_observer_share_one_connection_to_a_server_that_is_back(
    temporal_port: int, tmp_path: Path
) -> None:
    relay = Relay(temporal_port)
    relay.close()
    observer = Observer(settings_of(relay.port, tmp_path))
    assert await observer.client() is None
    back = Relay(temporal_port, relay.port)
    snapshot, client = await asyncio.gather(observer.snapshot(0.0), observer.client())
    assert snapshot.status.temporal.ok and snapshot.runs is not None
    assert client is await observer.client()
    assert back.accepted == 1
    back.close()
