"""Serves an ASGI application within a test: in a thread of its own, on a free port."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from uvicorn.config import Config
from uvicorn.server import Server

_START_SECONDS = 10.0
_POLL_SECONDS = 0.005


@contextmanager
def served(app: Any, **options: Any) -> Iterator[str]:
    """Serve ``app`` until the block ends; yields its base address. ``options`` go to uvicorn."""
    # asyncio disables Nagle's algorithm only if the protocol is given explicitly; with it, each answer takes 40 ms
    # more.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    config = Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1, **options)
    server = Server(config)
    # The thread must not touch the process's signal handlers.
    thread = threading.Thread(target=asyncio.run, args=(server._serve([listening]),), daemon=True)
    thread.start()
    given_up = time.monotonic() + _START_SECONDS
    while not server.started and time.monotonic() < given_up:
        time.sleep(_POLL_SECONDS)
    scheme = "https" if "ssl_certfile" in options else "http"
    try:
        yield f"{scheme}://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True  # the server ends by itself a moment later; there is no need to wait
