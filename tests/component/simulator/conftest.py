"""One simulator for each test that asks for one."""

from collections.abc import Iterator

import pytest

from fleet.devstack.simulator.testing import RunningSimulator, running_simulator


@pytest.fixture
def simulator() -> Iterator[RunningSimulator]:
    with running_simulator() as running:
        yield running
