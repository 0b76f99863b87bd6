"""What is said of a server of the user's own that cannot be reached, has no such path, or lists no such model."""

from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from fleet.cli import provider_test
from fleet.config import load_settings
from fleet.devstack.simulator.testing import RunningSimulator, running_simulator
from fleet.devstack.threaded_server import served
from fleet.errors import ProviderError
from fleet.process.metrics import Metrics
from fleet.providers.base import LlmRequest
from fleet.providers.registry import provider_factory
from fleet.providers.session import ProviderSession

REFUSED = "http://127.0.0.1:9/v1"
LISTED = ["gemma-3-1b-it", "qwen3-0.6b"]


async def _answer(request: Request) -> JSONResponse:
    usage = {"prompt_tokens": 9, "completion_tokens": 1}
    choice = {"index": 0, "message": {"role": "assistant", "content": "OK"}, "finish_reason": "stop"}
    return JSONResponse({"id": "c", "model": "/srv/gemma.gguf", "choices": [choice], "usage": usage})


async def _too_long(request: Request) -> JSONResponse:
    """As llama.cpp's server refuses what exceeds its context size."""
    said = "request (28942 tokens) exceeds the available context size (4096 tokens), try increasing it"
    return JSONResponse({"error": {"code": 400, "message": said, "type": "exceed_context_size_error"}}, 400)


async def _models(request: Request) -> JSONResponse:
    return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"} for name in LISTED]})


async def _nothing(request: Request, error: Exception) -> JSONResponse:
    """As llama.cpp's server answers for a path that it does not have."""
    said = {"code": 404, "message": "File Not Found", "type": "not_found_error"}
    return JSONResponse({"error": said}, 404)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    routes = [Route("/small/chat/completions", _too_long, methods=["POST"])]
    routes += [Route("/v1/chat/completions", _answer, methods=["POST"]), Route("/v1/models", _models)]
    with served(Starlette(routes=routes, exception_handlers={404: _nothing})) as base_url:
        yield base_url


async def tried(base_url: str, model: str = LISTED[0]) -> provider_test.TestedCall:
    mine = {"kind": "openai", "base_url": base_url, "needs_key": False}
    settings = load_settings(api_base_url="http://127.0.0.1:9", providers={"mine": mine})
    return await provider_test.test_provider(settings, None, "mine", model, with_backend=False)


async def called(base_url: str, name: str = "mine") -> ProviderError:
    """The failure of a call as a worker makes it."""
    section = {"kind": "openai", "base_url": base_url}
    settings = load_settings(api_base_url="http://127.0.0.1:9", providers={name: section}).provider(name)

    async def key(fresh: bool) -> str:
        return "sim-key-12345678"

    session = ProviderSession(settings, provider_factory(settings), key, Metrics())
    request = LlmRequest("gemma", "Answer.", "OK?", 0.7, None, 8, "fleet-1")
    with pytest.raises(ProviderError) as caught:
        await session.complete(request, timeout_seconds=10)
    await session.close()
    return caught.value


async def test_a_path_that_the_server_does_not_have_is_named_beside_the_model(server: str) -> None:
    wrong = f"{server}/v2"
    with pytest.raises(ProviderError) as tested:
        await tried(wrong, "gemma")
    for said in (str(tested.value), str(await called(wrong))):
        assert said == (
            f"mine: not_found (HTTP 404): File Not Found (model gemma at {wrong}). Remedy: set a model that "
            "exists there, or correct the path in base_url (FLEET_PROVIDERS__MINE__BASE_URL)"
        )


async def test_a_prompt_that_the_server_refuses_as_too_long_is_to_be_shortened(server: str) -> None:
    said = str(await called(f"{server}/small"))
    assert "context_exceeded (HTTP 400): request (28942 tokens)" in said
    assert "Remedy: shorten the assistant's prompt, " in said


async def test_a_refused_connection_is_named_with_its_address_and_cause() -> None:
    said = str(await called(REFUSED))
    with pytest.raises(ProviderError) as tested:
        await tried(REFUSED, "gemma")
    assert str(tested.value) == said
    assert said.startswith(f"mine: lost_before_sending: {REFUSED}: no connection could be made: [Errno 111] ")
    assert (await called(REFUSED)).before_sending


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    with running_simulator() as running:
        yield running


async def test_an_unknown_model_of_a_simulated_provider_is_not_blamed_on_the_simulators_address(
    simulator: RunningSimulator,
) -> None:
    simulator.fault("openai", "404", count=1)
    assert "base_url" not in str(await called(simulator.provider_url("openai"), "openai"))


async def test_a_model_that_the_server_does_not_list_is_not_confirmed(server: str) -> None:
    typed = await tried(f"{server}/v1", "gemma-3-1b")
    assert f"but the server lists no such name; the nearest of 2 is {LISTED[0]}" in typed.why_model
    assert typed.model == "gemma-3-1b, answered by /srv/gemma.gguf"
    assert (await tried(f"{server}/v1", LISTED[0])).why_model == "as asked for"
