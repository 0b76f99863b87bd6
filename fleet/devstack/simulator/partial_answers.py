"""Answers that do not arrive whole."""

import asyncio
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fleet.devstack.simulator.calls import Entry
from fleet.devstack.simulator.transports import transport_of

_DRIP_SECONDS = 0.2


class Nothing(Response):
    """No answer: the client is gone, or the connection is."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send nothing."""


class Truncated(Response):
    """Announces the whole body and closes the connection in the middle of it."""

    def __init__(
        self, content: bytes, headers: Mapping[str, str], request: Request, entry: Entry, outcome: str
    ) -> None:
        super().__init__(content, headers=dict(headers))
        self._request, self._entry, self._outcome = request, entry, outcome

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send half."""
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": half, "more_body": True})
        self._entry.end(200, self._outcome)
        transport_of(self._request).close()


class Dripping(Truncated):
    """Sends a byte at a time, so that no single read ever times out."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Drip until the client goes."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        gone = asyncio.ensure_future(receive())
        for byte in bytes(self.body):
            await send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
            if (await asyncio.wait({gone}, timeout=_DRIP_SECONDS))[0]:
                break
        self._entry.end(200, self._outcome)
        gone.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
