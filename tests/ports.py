"""Free ports, so that two test runs can go side by side."""

import random
import socket
from contextlib import ExitStack

FIVE = 5


def free_port_base() -> int:
    """The first of five free ports in a row."""
    for _ in range(1000):
        base = random.randrange(20_000, 60_000, FIVE)
        with ExitStack() as held:
            try:
                for port in range(base, base + FIVE):
                    held.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
        return base
    raise AssertionError("no five free ports in a row")
