"""An HTTP server within a process of the fleet: uvicorn with the fleet's own signal handling."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.server import Server as UvicornServer

from fleet.errors import SettingsError
from fleet.process.http_connections import BoundedProtocol, Bounds

_GRACE_SECONDS = 5
_BOUNDS = Bounds()


class Server(UvicornServer):
    """A server of an ASGI application that leaves the signals to its process, with bounded connections."""

    def __init__(self, app: Any, bounds: Bounds = _BOUNDS) -> None:
        config = Config(
            app,
            http=cast("type[asyncio.Protocol]", partial(BoundedProtocol, bounds)),
            h11_max_incomplete_event_size=bounds.head_bytes,
            timeout_keep_alive=bounds.idle_seconds,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            # An upgraded connection would be outside the bounds; a client's address is never taken from a header.
            ws="none",
            proxy_headers=False,
            server_header=False,
            access_log=False,
            log_config=None,
            lifespan="off",
        )
        super().__init__(config)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: the process handles the signals."""
        yield


def listen_on(host: str, port: int, process: str, remedy: str) -> socket.socket:
    """A listening socket.

    Raises:
        SettingsError: the port is taken or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise SettingsError(
            f"the {process} process cannot listen on {host}:{port} ({error.strerror}). Remedy: {remedy}"
        ) from None
