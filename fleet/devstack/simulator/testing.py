"""The simulator within a test."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from fleet.devstack.serving import served
from fleet.devstack.simulator.addresses import Kind, provider_url
from fleet.devstack.simulator.app import create_app
from fleet.devstack.simulator.engine import Engine
from fleet.devstack.simulator.latency import Latency
from fleet.devstack.simulator.transports import ReachableProtocol


class RunningSimulator:
    """A simulator that listens at ``base_url``; its controls as methods."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    def ledger(self) -> list[dict[str, Any]]:
        """All calls so far."""
        calls: list[dict[str, Any]] = httpx.get(f"{self.base_url}/ledger", trust_env=False).json()["calls"]
        return calls

    def clear(self) -> None:
        """Forget all calls so far."""
        httpx.delete(f"{self.base_url}/ledger", trust_env=False).raise_for_status()

    def stats(self) -> dict[str, Any]:
        """Counts of the simulator itself."""
        stats: dict[str, Any] = httpx.get(f"{self.base_url}/stats", trust_env=False).json()
        return stats

    def fault(self, provider: str, kind: str, **values: Any) -> None:
        """Script a fault."""
        body = {"provider": provider, "kind": kind} | values
        httpx.post(f"{self.base_url}/faults", json=body, trust_env=False).raise_for_status()

    def put(self, control: str, **values: Any) -> None:
        """``PUT /limits``, ``/latency`` or ``/tenant``."""
        httpx.put(f"{self.base_url}/{control}", json=values, trust_env=False).raise_for_status()

    def provider_url(self, provider: str) -> str:
        """The base_url to give to a provider of that name."""
        kinds: dict[str, Kind] = {"anthropic": "anthropic", "gemini": "gemini"}
        return provider_url(self.base_url, provider, kinds.get(provider, "openai"))


@contextmanager
def running_simulator(seed: int = 1, latency: Latency | None = None) -> Iterator[RunningSimulator]:
    """Run a simulator until the block ends; without ``latency`` it answers at once."""
    engine = Engine(seed, latency or Latency(0.0, 0.0, 0.0))
    with served(create_app(engine), http=ReachableProtocol) as base_url:
        yield RunningSimulator(base_url)
