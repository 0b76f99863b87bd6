"""``fleet demo``: starts a fleet on the embedded stack, runs one pipeline of the sample project, ends the
fleet."""

import os
from collections.abc import Callable
from importlib.resources import as_file, files

from fleet.cli.down import take_down
from fleet.cli.find_fleet import settings_for_embedded
from fleet.cli.fleet_record import FleetRecord
from fleet.cli.run import read_inputs
from fleet.cli.up import UpOptions, bring_up
from fleet.control.supervision.supervisord_home import Home
from fleet.pipeline.inputs import PipelineInputs

TOPIC = "Jak vybrat kávovar do malé kanceláře"
PROJECT = "seo-demo"
# How variables begin that would make a demo use the user's own servers or accounts.
_NOT_FOR_DEMO = ("TEMPORAL_", "API_BASE_URL", "FLEET_PROJECTS_DIR")

Say = Callable[[str], None]


def demo_inputs() -> PipelineInputs:
    """The sample topic for the sample project, with its keyword CSV."""
    with as_file(files("fleet.devstack.sample").joinpath("keywords.csv")) as keywords:
        return read_inputs(TOPIC, PROJECT, keywords, None)


def forget_own_servers() -> None:
    """Remove the addresses of the user's own servers, and the keys for them, from this process's environment: a
    demo never uses them."""
    for name in [name for name in os.environ if name.startswith(_NOT_FOR_DEMO)]:
        del os.environ[name]


def demo_up(port_base: int | None, say: Say) -> FleetRecord:
    """Start the demo's fleet, always on the embedded stack with simulated providers."""
    return bring_up(UpOptions(port_base=port_base, all_simulated=True), say)


def demo_down(record: FleetRecord, say: Say) -> None:
    """End the demo's fleet."""
    say("ending the fleet ...")
    take_down(Home.of(settings_for_embedded()), record, say=say)
