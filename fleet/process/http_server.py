"""An HTTP server within a process of the fleet: uvicorn with the fleet's own signal handling."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from fleet.errors import SettingsError

_GRACE_SECONDS = 5


class Server(uvicorn.Server):
    """A server of an ASGI application that leaves the signals to its process."""

    def __init__(self, app: Any) -> None:
        config = uvicorn.Config(
            app, access_log=False, log_config=None, lifespan="off", timeout_graceful_shutdown=_GRACE_SECONDS
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
