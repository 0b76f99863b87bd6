"""The simulator within a test."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from fleet.devstack.simulator.addresses import provider_url
from fleet.devstack.simulator.app import create_app
from fleet.devstack.simulator.engine import Engine
from fleet.devstack.simulator.latency import Latency
from fleet.devstack.simulator.transports import ReachableProtocol
from fleet.devstack.simulator.vendors import all_vendors, vendor_of
from fleet.devstack.threaded_server import served


class RunningSimulator:
    """A simulator that listens at ``base_url``; its controls as methods."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    def _control(self, method: str, path: str, body: object = None) -> Any:
        # verify=False: reading the certificate store takes longer than the call, which is plain http.
        answer = httpx.request(method, f"{self.base_url}/{path}", json=body, trust_env=False, verify=False)
        return answer.raise_for_status().json()

    def ledger(self) -> list[dict[str, Any]]:
        """All calls so far."""
        calls: list[dict[str, Any]] = self._control("GET", "ledger")["calls"]
        return calls

    def clear(self) -> None:
        """Forget all calls so far."""
        self._control("DELETE", "ledger")

    def stats(self) -> dict[str, Any]:
        """Counts of the simulator itself."""
        stats: dict[str, Any] = self._control("GET", "stats")
        return stats

    def buckets(self, provider: str) -> list[dict[str, Any]]:
        """The provider's buckets, one for each key and kind of limit: their ``level`` now."""
        found: list[dict[str, Any]] = self._control("GET", "limits")["buckets"]
        return [bucket for bucket in found if bucket["provider"] == provider]

    def fault(self, provider: str, kind: str, **values: Any) -> None:
        """Script a fault."""
        self._control("POST", "faults", {"provider": provider, "kind": kind} | values)

    def put(self, control: str, **values: Any) -> None:
        """``PUT /limits``, ``/latency`` or ``/tenant``."""
        self._control("PUT", control, values)

    def provider_url(self, provider: str) -> str:
        """The base_url to give to a provider of that name."""
        kind = provider if provider in all_vendors() else "openai"
        return provider_url(self.base_url, provider, kind)


@contextmanager
def running_simulator(seed: int = 1, latency: Latency | None = None) -> Iterator[RunningSimulator]:
    """Run a simulator until the block ends; without ``latency`` it answers at once."""
    engine = Engine(vendor_of, seed, latency or Latency(0.0, 0.0, 0.0))
    with served(create_app(engine), http=ReachableProtocol) as base_url:
        yield RunningSimulator(base_url)
