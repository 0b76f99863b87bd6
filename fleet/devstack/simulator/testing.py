"""The simulator within a test: in a thread of its own, on a free port."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn

from fleet.devstack.simulator.addresses import Kind, provider_url
from fleet.devstack.simulator.app import create_app
from fleet.devstack.simulator.engine import Engine
from fleet.devstack.simulator.latency import Latency
from fleet.devstack.simulator.transports import ReachableProtocol

_START_SECONDS = 10.0


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
    # asyncio turns Nagle off only where the protocol is spelt out; with it each answer takes 40 ms more.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        create_app(engine),
        http=ReachableProtocol,
        log_level="warning",
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    # The thread must not touch the process's signal handlers.
    thread = threading.Thread(target=asyncio.run, args=(server._serve([listening]),), daemon=True)
    thread.start()
    base_url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    transport = httpx.HTTPTransport(retries=3)
    with httpx.Client(transport=transport, timeout=_START_SECONDS, trust_env=False) as client:
        client.get(f"{base_url}/health").raise_for_status()
    try:
        yield RunningSimulator(base_url)
    finally:
        server.should_exit = True
        thread.join(_START_SECONDS)
