"""Breaking a connection for real: an HTTP protocol that lets a handler reach its own socket."""

import socket
import struct
from asyncio import Transport
from typing import Any, cast

from starlette.requests import Request
from uvicorn.protocols.http.h11_impl import H11Protocol

_open: dict[tuple[str, int], Transport] = {}
_LINGER_RESET = struct.pack("ii", 1, 0)


class ReachableProtocol(H11Protocol):
    """uvicorn's own protocol, which also remembers each connection's transport by the peer's address."""

    _peer: tuple[str, int] | None = None

    def connection_made(self, transport: Any) -> None:
        """Remember the transport."""
        super().connection_made(transport)
        self._peer = self.client
        if self._peer is not None:
            _open[self._peer] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        if self._peer is not None:
            _open.pop(self._peer, None)
        super().connection_lost(exc)


def transport_of(request: Request) -> Transport:
    """The transport that a request came in by."""
    return _open[cast("tuple[str, int]", tuple(request.scope["client"]))]


def reset(request: Request) -> None:
    """End the connection with a TCP reset: the client sees ECONNRESET."""
    transport = transport_of(request)
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
    transport.abort()
