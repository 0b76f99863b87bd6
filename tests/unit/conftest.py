"""Unit tests reach no other machine, and start no server on this one."""

import socket
from typing import Any

import pytest

HERE = ("127.", "::1", "localhost")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to another machine fails the test."""
    connect = socket.socket.connect

    def connect_here(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and not str(address[0]).startswith(HERE):
            raise AssertionError(f"a unit test connects to {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here)
