"""``fleet demo``: a fleet on the embedded stack, one pipeline of the sample project, and down again."""

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
# What would lead a demo to servers or accounts of the user's own.
_NOT_FOR_DEMO = ("TEMPORAL_HOST", "TEMPORAL_NAMESPACE", "API_BASE_URL")

Say = Callable[[str], None]


def demo_inputs() -> PipelineInputs:
    """The sample topic over the sample project, with its keyword CSV."""
    with as_file(files("fleet.devstack.sample").joinpath("keywords.csv")) as keywords:
        return read_inputs(TOPIC, PROJECT, keywords, None)


def forget_own_servers() -> None:
    """Drop what points to one's own servers from this process's environment: a demo never touches them."""
    for name in _NOT_FOR_DEMO:
        os.environ.pop(name, None)


def demo_up(port_base: int | None, say: Say) -> FleetRecord:
    """Bring the demo's fleet up, always on the embedded stack with simulated providers."""
    return bring_up(UpOptions(port_base=port_base), say)


def demo_down(record: FleetRecord, say: Say) -> None:
    """Take the demo's fleet down."""
    say("ending the fleet ...")
    take_down(Home.of(settings_for_embedded()), record, say=say)
