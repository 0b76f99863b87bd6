"""A program of the embedded stack serves until a signal, and says by its status that it could not start."""

import signal
import socket
import subprocess
import sys

import httpx
import pytest

from tests.ports import free_port_base
from tests.waiting import wait_for

SECONDS = 30.0


def started(port: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-P", "-m", "fleet.devstack.simulator", "--port", str(port)]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def answers(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)
    except httpx.TransportError:
        return False
    return True


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 0)])
def test_it_serves_until_a_signal(sent: signal.Signals, status: int) -> None:
    port = free_port_base()
    program = started(port)
    try:
        wait_for("an answer", lambda: answers(port), SECONDS)
        program.send_signal(sent)
        said = program.communicate(timeout=SECONDS)[1]
        assert program.returncode == status
        assert b"Traceback" not in said
    finally:
        program.kill()


def test_it_ends_with_a_failure_where_its_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", free_port_base())) as taken:
        program = started(taken.getsockname()[1])
        try:
            said = program.communicate(timeout=SECONDS)[1]
            assert program.returncode > 0
            assert b"address already in use" in said
        finally:
            program.kill()
