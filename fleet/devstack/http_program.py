"""Serves an ASGI application as a program of the embedded stack."""

import sys
from contextlib import suppress
from typing import Any

from uvicorn.config import Config
from uvicorn.server import Server

#: Exit status of a server that could not start, as uvicorn's own command has it.
EXIT_NOT_STARTED = 3


def serve_until_signal(app: Any, **options: Any) -> None:
    """Serve ``app`` until SIGTERM or SIGINT; ``options`` go to uvicorn.

    ``uvicorn.run`` does the same, but loads uvicorn's command line first.
    """
    server = Server(Config(app, **options))
    with suppress(KeyboardInterrupt):  # which uvicorn raises once it has stopped
        server.run()
    if not server.started:
        sys.exit(EXIT_NOT_STARTED)
