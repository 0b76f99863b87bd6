"""The simulator within a test."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet.devstack.simulator.addresses import provider_url
from fleet.devstack.simulator.app import create_app
from fleet.devstack.simulator.engine import Engine
from fleet.devstack.simulator.latency import Latency
from fleet.devstack.simulator.transports import ReachableProtocol
from fleet.devstack.simulator.vendors import all_vendors, vendor_of
from fleet.devstack.threaded_server import served


class RunningSimulator:
    """A simulator that listens at ``base_url``; its controls as methods."""

    def __init__(self, base_url: str, received: "_Received | None" = None) -> None:
        self.base_url = base_url
        self._received = received

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The JSON bodies of the calls so far, as they were received."""
        return [] if self._received is None else [json.loads(body) for body in self._received.bodies]

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
    received = _Received(create_app(engine))
    with served(received, http=ReachableProtocol) as base_url:
        yield RunningSimulator(base_url, received)


class _Received:
    """Keeps the bodies of calls to providers, which are posted below an API's version."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and keep the body."""
        if scope["type"] != "http" or scope["method"] != "POST" or "/v1" not in scope["path"]:
            await self._app(scope, receive, send)
            return
        parts: list[bytes] = []

        async def receive_kept() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                parts.append(message.get("body", b""))
                if not message.get("more_body"):
                    self.bodies.append(b"".join(parts))
            return message

        await self._app(scope, receive_kept, send)
