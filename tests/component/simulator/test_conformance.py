"""The conformance check passes on the simulator, and finds what differs elsewhere."""

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from fleet.devstack.conformance import CHECKS, KINDS, conformance, endpoint
from fleet.devstack.simulator.testing import RunningSimulator
from fleet.devstack.threaded_server import served


async def test_the_simulator_conforms(simulator: RunningSimulator) -> None:
    lines: list[str] = []
    assert await conformance([endpoint(simulator.base_url, kind) for kind in KINDS], lines.append) == 0, lines
    assert len(lines) == len(KINDS) * len(CHECKS)


async def test_a_mock_that_answers_everything_with_an_empty_object_does_not() -> None:
    async def empty(request: Request) -> JSONResponse:
        return JSONResponse({})

    lines: list[str] = []
    with served(Starlette(routes=[Route("/{path:path}", empty, methods=["GET", "POST"])])) as base_url:
        failed = await conformance([endpoint(base_url, kind) for kind in KINDS], lines.append)
    assert failed >= len(KINDS) * (len(CHECKS) - 1)


def test_an_address_elsewhere_needs_a_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ValueError, match="set OPENAI_API_KEY; calls there are paid"):
        endpoint("https://api.openai.com/v1", "openai")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine-1234567890")
    assert endpoint("https://api.openai.com/v1", "openai").settings.base_url == "https://api.openai.com/v1"
