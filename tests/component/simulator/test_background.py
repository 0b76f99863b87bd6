"""Calls that go on without their process, by both adapters that have them, over the unmodified SDKs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from fleet.config import load_settings
from fleet.devstack.simulator.testing import RunningSimulator
from fleet.errors import ProviderError
from fleet.failures import FailureKind
from fleet.providers.base import LlmAnswer, LlmRequest, Provider, ResumeHandle
from fleet.providers.registry import provider_factory

KEY = "sim-key-12345678"
MODELS = {"openai": "gpt-4o", "gemini": "gemini-2.5-flash"}
#: Where a call is found, and how a key is shown.
PATHS = {"openai": "/v1/responses/", "gemini": "/v1beta/interactions/"}
HEADERS = {"openai": {"authorization": f"Bearer {KEY}"}, "gemini": {"x-goog-api-key": KEY}}

pytestmark = pytest.mark.parametrize("name", sorted(MODELS))


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.providers.background_calls.FIRST_LOOK_SECONDS", 0.02)


@asynccontextmanager
async def process(name: str, simulator: RunningSimulator, key: str = KEY) -> AsyncIterator[Provider]:
    """What a process has of the provider."""
    section = {"base_url": simulator.provider_url(name), "background": True}
    settings = load_settings(api_base_url="http://localhost:1", providers={name: section}).provider(name)
    client = provider_factory(settings)(key)
    try:
        yield client
    finally:
        await client.close()


async def complete(client: Provider, name: str, resume_handle: ResumeHandle) -> LlmAnswer:
    request = LlmRequest(MODELS[name], "Write.", "Kávovar", 0.7, None, 4000, "fleet-1")
    return await client.complete(request, timeout_seconds=10, resume_handle=resume_handle)


class Notes:
    """Notes the ids that a ticket is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.known = asyncio.Event()

    async def started(self, response_id: str) -> None:
        self.told.append(response_id)
        self.known.set()


async def begun(name: str, simulator: RunningSimulator, seconds: float) -> str:
    """The id of a call that takes so long, and whose process is gone."""
    simulator.put("latency", provider=name, median_seconds=seconds, seconds_per_output_token=0)
    notes = Notes()
    async with process(name, simulator) as client:
        call = asyncio.create_task(complete(client, name, ResumeHandle(None, notes.started)))
        await asyncio.wait_for(notes.known.wait(), 10)
        call.cancel()
        await asyncio.wait({call})
    (response_id,) = notes.told
    return response_id


async def failing(
    name: str, simulator: RunningSimulator, response_id: str, key: str = KEY
) -> tuple[ProviderError, list[str]]:
    """The failure of the process that picks the call up, and what the ticket was told."""
    notes = Notes()
    async with process(name, simulator, key) as client:
        with pytest.raises(ProviderError) as caught:
            await complete(client, name, ResumeHandle(response_id, notes.started))
    return caught.value, notes.told


def ask(simulator: RunningSimulator, name: str, method: str, path: str) -> None:
    """Do something else to a call."""
    address = f"{simulator.base_url}{PATHS[name]}{path}"
    httpx.request(method, address, headers=HEADERS[name], trust_env=False, verify=False).raise_for_status()


async def test_the_next_process_picks_it_up_and_nothing_is_sent_twice(
    name: str, simulator: RunningSimulator
) -> None:
    response_id, notes = await begun(name, simulator, 1.0), Notes()
    async with process(name, simulator) as client:
        answer = await complete(client, name, ResumeHandle(response_id, notes.started))
    assert answer.text.startswith("[SIMULATOR]") and answer.finish_reason == "stop" and notes.told == []
    (call,) = simulator.ledger()
    assert (call["outcome"], call["idempotency_key"]) == ("answered", "fleet-1")
    assert (call["input_tokens"], call["output_tokens"]) == (answer.input_tokens, answer.output_tokens)


async def test_one_that_the_provider_has_no_more_may_have_been_paid(
    name: str, simulator: RunningSimulator
) -> None:
    response_id = await begun(name, simulator, 60.0)
    ask(simulator, name, "DELETE", response_id)
    error, told = await failing(name, simulator, response_id)
    assert (error.failure_kind, told) == (FailureKind.LOST_AFTER_SENDING, [""])


async def test_while_the_key_is_rejected_it_stays_known(name: str, simulator: RunningSimulator) -> None:
    response_id = await begun(name, simulator, 60.0)
    error, told = await failing(name, simulator, response_id, "sim-key-revoked")
    assert (error.failure_kind, error.goes_on, told) == (FailureKind.KEY_REJECTED, True, [])


async def test_one_that_was_cancelled_there_is_not_picked_up_again(name: str, simulator: RunningSimulator) -> None:
    response_id = await begun(name, simulator, 60.0)
    ask(simulator, name, "POST", f"{response_id}/cancel")
    error, told = await failing(name, simulator, response_id)
    assert (error.failure_kind, told) == (FailureKind.LOST_AFTER_SENDING, [""])


async def test_without_a_ticket_it_is_an_ordinary_call(name: str, simulator: RunningSimulator) -> None:
    request = LlmRequest(MODELS[name], "Write.", "Kávovar", 0.7, None, 4000, "fleet-1")
    async with process(name, simulator) as client:
        answer = await client.complete(request, timeout_seconds=10)
    assert answer.text.startswith("[SIMULATOR]")
    assert [call["api"] for call in simulator.ledger()] == [{"gemini": "generate_content"}.get(name, "responses")]
