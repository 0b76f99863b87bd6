"""What one HTTP connection may cost its server: uvicorn's protocol with bounds in number, time and size.

A client that says nothing, sends or reads a byte at a time, or opens ever more connections, holds one only until
its time is up or the room is needed. An answer that the server makes itself, because there is no request that the
application could answer, is JSON with an ``error`` and the strictest security headers.
"""

import json
import sys
from asyncio import TimerHandle, Transport
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any

from h11 import IDLE, SEND_BODY, SEND_RESPONSE, Data, EndOfMessage, RemoteProtocolError, Response
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

#: The parser checks the size of a request's head only while that is incomplete, so it gets no more at a time.
_PARSED_BYTES = 2048
_BUSY = "all connections are being answered. Remedy: ask again, and close pages that nobody looks at"
_LATE_HEAD = "the request line and headers did not come within {:g} s"
_LATE_BODY = "the body did not come within {:g} s"
_MALFORMED = "the request is not valid HTTP"
_LARGE_HEAD = "the request line and headers are larger than {} bytes"
_HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "connection": "close",
}


@dataclass(frozen=True)
class Bounds:
    """The bounds of one server. ``connections`` is their number, of which ``kept_for_this_machine`` are only for
    clients on the same machine. ``unread_seconds`` is how long an answer may lie unread by its client."""

    connections: int = 200
    kept_for_this_machine: int = 20
    head_bytes: int = 16_384
    head_seconds: float = 10.0
    body_seconds: float = 10.0
    idle_seconds: int = 5
    unread_seconds: float = 20.0


class BoundedProtocol(H11Protocol):
    """uvicorn's own protocol within ``bounds``.

    If there are too many connections, the one that has waited longest for its client is closed. If none waits, the
    new one is answered with 503."""

    def __init__(self, bounds: Bounds, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._bounds = bounds
        self._since = self.loop.time()
        self._timer: TimerHandle | None = None
        self._awaited = ""
        self._unread_timer: TimerHandle | None = None

    @property
    def is_from_here(self) -> bool:
        """Whether the client is on this machine: it comes from a loopback address, or from the server's own."""
        if self.client is None or self.server is None:
            return False
        host = self.client[0].partition("%")[0]
        return host == self.server[0].partition("%")[0] or ip_address(host).is_loopback

    @property
    def waits_for_client(self) -> bool:
        """Whether it is the client who has to send or to read something now."""
        answered = self.cycle is None or self.cycle.response_complete or self.transport.is_closing()
        return answered or self.flow.write_paused or self.conn.their_state in (IDLE, SEND_BODY)

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, and make room if there is none."""
        super().connection_made(transport)
        self._await("head", self._bounds.head_seconds, self._head_is_late)
        kept = 0 if self.is_from_here else self._bounds.kept_for_this_machine
        if len(self.connections) > self._bounds.connections - kept and not self._made_room():
            self.app = self._busy

    def _made_room(self) -> bool:
        """Close the connection that has waited longest, from this machine only for another from here."""
        others = [other for other in self.connections if isinstance(other, BoundedProtocol) and other is not self]
        waiting = [
            other for other in others if other.waits_for_client and (self.is_from_here or not other.is_from_here)
        ]
        if not waiting:
            return False
        longest = min(waiting, key=lambda other: other._since)
        self.connections.discard(longest)
        longest.transport.abort()
        return True

    def data_received(self, data: bytes) -> None:
        """Parse it, and wait for what is missing of the request."""
        for start in range(0, len(data), _PARSED_BYTES):
            if self.transport.is_closing():
                return
            super().data_received(data[start : start + _PARSED_BYTES])
        if self.transport.is_closing():
            return
        if self.conn.their_state is IDLE:
            self._await("head", self._bounds.head_seconds, self._head_is_late)
        elif self.conn.their_state is SEND_BODY:
            self._await("body", self._bounds.body_seconds, self._body_is_late)
        else:
            self._await_nothing()

    def on_response_complete(self) -> None:
        """Wait for the next request, but not for long for a body or a reader that the answer did not need."""
        self._await_nothing()
        self._since = self.loop.time()
        super().on_response_complete()
        if self.transport.is_closing():
            self._abort_unread()
        elif self.conn.their_state is SEND_BODY:
            self._await("rest", self._bounds.body_seconds, self.transport.abort)

    def pause_writing(self) -> None:
        """The client does not read what is sent."""
        super().pause_writing()
        self._since = self.loop.time()
        self._abort_unread()

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        if self._unread_timer is not None and not self.transport.is_closing():
            self._unread_timer.cancel()
            self._unread_timer = None

    def timeout_keep_alive_handler(self) -> None:
        """No next request came."""
        super().timeout_keep_alive_handler()
        self._abort_unread()

    def shutdown(self) -> None:
        """The server ends."""
        super().shutdown()
        if self.transport.is_closing():
            self._abort_unread()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._await_nothing()
        if self._unread_timer is not None:
            self._unread_timer.cancel()

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser refuses."""
        error = sys.exception()
        if isinstance(error, RemoteProtocolError) and error.error_status_hint == 431:
            self._refuse(431, _LARGE_HEAD.format(self._bounds.head_bytes))
        else:
            self._refuse(400, _MALFORMED)

    def _head_is_late(self) -> None:
        self._refuse(408, _LATE_HEAD.format(self._bounds.head_seconds))

    def _body_is_late(self) -> None:
        self._refuse(408, _LATE_BODY.format(self._bounds.body_seconds))

    def _refuse(self, status: int, why: str) -> None:
        """Answer instead of the application, unless that has begun to; then close."""
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (IDLE, SEND_RESPONSE):
            body = json.dumps({"error": why}).encode()
            is_head = self.conn.our_state is SEND_RESPONSE and self.scope["method"] == "HEAD"
            lines = _HEADERS | {"content-type": "application/json", "content-length": str(len(body))}
            headers = [(name.encode(), value.encode()) for name, value in lines.items()]
            headers += self.server_state.default_headers
            answer = Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase.encode())
            for event in (answer, Data(b"" if is_head else body), EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
        self._abort_unread()

    async def _busy(self, scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse({"error": _BUSY}, 503, _HEADERS | {"retry-after": "10"})(scope, receive, send)

    def _await(self, what: str, seconds: float, late: Callable[[], None]) -> None:
        """Call ``late`` unless that has come within so many seconds from now, or from an earlier call for it."""
        if self._awaited != what:
            self._await_nothing()
            self._awaited, self._timer = what, self.loop.call_later(seconds, late)

    def _await_nothing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._awaited, self._timer = "", None

    def _abort_unread(self) -> None:
        if self._unread_timer is None:
            self._unread_timer = self.loop.call_later(self._bounds.unread_seconds, self.transport.abort)
