"""The machines of a run: fleets on one Temporal server, backend and simulator, each with a state folder of its
own, and so with a machine's id of its own.

Where rates are kept only approximately, the server is one that nobody has configured: it divides each queue into
four partitions, and does not permit that a rate be set.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.limits.scenarios import BARE, Scenario
from fleet.devstack.detached_processes import end_processes
from fleet.devstack.simulator.addresses import provider_url
from fleet.devstack.stack import Ports, Stack
from tests.fleet import Fleet
from tests.ports import free_port_base

_FORBIDDING = Path(__file__).parent / "forbidding"


class Unconfigured(Stack):
    """The embedded stack with a Temporal server that is left as it comes."""

    def commands(self) -> dict[str, list[str]]:
        """What is started, by name."""
        return self._commands()

    def _temporal(self) -> list[str]:
        command = iter(super()._temporal())
        return [directive for directive in command if directive != "--dynamic-config-value" or not next(command)]


@contextmanager
def machines_up(scenario: Scenario, folder: Path) -> Iterator[list[Fleet]]:
    """The fleets, up until the block ends; the first one's simulator and Temporal server are everyone's."""
    first = _machine(scenario, folder, 0, _environment(scenario))
    fleets = [first]
    try:
        if scenario.approximate:
            stack = Unconfigured(first.state / "devstack", first.state / "logs", Ports.from_base(first.port_base))
            first.further += stack.start()
            first.environment = dict(first.environment) | _outside(first)
            _up(first, "--external", "--real-providers")
        else:
            _up(first)
        outside = _environment(scenario) | _outside(first)
        for number in range(1, scenario.machines):
            fleets.append(_machine(scenario, folder, number, outside))
            _up(fleets[-1], "--external", "--real-providers")
        yield fleets
    finally:
        for fleet in reversed(fleets):
            fleet.fleet("down")
        end_processes(first.further)
        shutil.rmtree(folder / "machines", ignore_errors=True)


def _machine(scenario: Scenario, folder: Path, number: int, environment: dict[str, str]) -> Fleet:
    state = folder / "machines" / str(number)
    programs = state / "programs.d"
    programs.mkdir(parents=True, mode=0o700)
    for load in scenario.loads:
        text = f"[program:{load.provider}]\nnumprocs={scenario.processes}\n"
        (programs / f"{load.provider}.conf").write_text(text)
    return Fleet(state, free_port_base(), environment)


def _up(fleet: Fleet, *options: str) -> None:
    up = fleet.fleet("up", "--detach", "--port-base", str(fleet.port_base), *options)
    if up.returncode:
        raise SystemExit(f"the fleet did not come up: {up.stderr}")


def _outside(first: Fleet) -> dict[str, str]:
    """The first machine's servers, as another machine's environment has them."""
    ports, host = Ports.from_base(first.port_base), "127.0.0.1"
    simulator = f"http://{host}:{ports.simulator}"
    return {
        "TEMPORAL_HOST": f"{host}:{ports.temporal}",
        "API_BASE_URL": f"http://{host}:{ports.backend}",
        "FLEET_BACKEND_ALLOW_HTTP": "true",
        "FLEET_PROVIDERS__OPENAI__BASE_URL": provider_url(simulator, "openai", "openai"),
        "FLEET_PROVIDERS__ANTHROPIC__BASE_URL": provider_url(simulator, "anthropic", "anthropic"),
        "FLEET_PROVIDERS__GEMINI__BASE_URL": provider_url(simulator, "gemini", "gemini"),
    }


def _environment(scenario: Scenario) -> dict[str, str]:
    """The fleets' settings."""
    environment = {"FLEET_DRAIN_SECONDS": "5", "FLEET_ACTIVITY_TIMEOUT_SECONDS": "120"}
    if scenario.approximate:
        environment["PYTHONPATH"] = str(_FORBIDDING)
        environment["FLEET_KEEP_VARIABLES"] = "PYTHONPATH"
    for load in scenario.loads:
        prefix = f"FLEET_PROVIDERS__{load.provider.upper()}"
        environment[f"{prefix}__CONCURRENCY"] = str(scenario.concurrency)
        environment[f"{prefix}__TIMEOUT_SECONDS"] = "20"
        if load.rpm:
            environment[f"{prefix}__RPM"] = str(load.rpm)
        if load.tpm:
            environment[f"{prefix}__TPM"] = str(load.tpm)
        if load.provider == BARE:
            environment[f"{prefix}__KIND"] = "openai"
            environment[f"{prefix}__API"] = "responses"
            environment[f"{prefix}__BASE_URL"] = "https://bare.invalid/v1"
    return environment
