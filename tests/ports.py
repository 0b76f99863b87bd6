"""Free ports, so that two test runs can go side by side."""

import random
import socket
from contextlib import ExitStack
from pathlib import Path

FIVE = 5
_LOWEST = 10_000
#: What this process has been given, each held by a name that is free again when it ends.
_taken: list[socket.socket] = []


def free_port_base() -> int:
    """The first of five free ports in a row, which no other test process gets."""
    # Above that the system gives ports to outgoing connections, also between this look and their use here.
    beyond = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    for _ in range(1000):
        base = random.randrange(_LOWEST, beyond - FIVE, FIVE)
        name = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            name.bind(f"\0fleet-tests-port-{base}")
        except OSError:
            name.close()
            continue
        _taken.append(name)
        if _are_free(base):
            return base
    raise AssertionError("no five free ports in a row")


def _are_free(base: int) -> bool:
    with ExitStack() as held:
        try:
            for port in range(base, base + FIVE):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
        except OSError:
            return False
    return True
