"""A Temporal server of a test's own, with settings of its own."""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from temporalio.client import Client

from tests.fleet import BIN
from tests.ports import free_port_base
from tests.waiting import wait_for


@contextmanager
def running_temporal(*settings: str) -> Iterator[str]:
    """The address of a server that is up until the block ends; ``settings`` are dynamic ones, as ``key=value``."""
    port = free_port_base()
    command = [str(BIN / "temporal"), "server", "start-dev", "--headless", "--log-level", "error"]
    command += ["--ip", "127.0.0.1", "--port", str(port)]
    for setting in settings:
        command += ["--dynamic-config-value", setting]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for("Temporal answers", lambda: asyncio.run(_answers(f"127.0.0.1:{port}")))
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


async def _answers(address: str) -> bool:
    try:
        await Client.connect(address)
    except RuntimeError:
        return False
    return True
