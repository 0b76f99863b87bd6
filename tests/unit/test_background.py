"""Calls that go on at the provider: what looking at them comes to, with both adapters that have them."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from fleet.config import load_settings
from fleet.errors import ProviderError
from fleet.execution.attempts import Attempts
from fleet.failures import FailureKind
from fleet.process.metrics import Metrics
from fleet.provider_settings import ProviderSettings
from fleet.providers.base import LlmAnswer, LlmRequest, Provider, ResumeHandle
from fleet.providers.registry import provider_factory
from fleet.providers.session import ProviderSession

REQUEST = LlmRequest("model", "system", "user", 0.7, None, None, "key-1")
STARTED: dict[str, dict[str, Any]] = {"openai": {"status": "queued", "output": []}, "gemini": {"status": "queued"}}
DONE: dict[str, dict[str, Any]] = {
    "openai": {
        "status": "completed",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "ano"}]}],
    },
    "gemini": {
        "status": "completed",
        "steps": [{"type": "model_output", "content": [{"type": "text", "text": "ano"}]}],
    },
}
REJECTED: dict[str, tuple[int, Any]] = {
    "openai": (401, {"error": {"code": "invalid_api_key", "message": "revoked"}}),
    "gemini": (
        400,
        {"error": {"code": 400, "status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}},
    ),
}

pytestmark = pytest.mark.parametrize("name", sorted(DONE))


class Endpoint:
    """An endpoint with one call, which is done when it has been looked at often enough; each look that is scripted
    fails like that."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.looks: list[tuple[int, Any]] = []
        self.accepted = "sim-key"
        self.created = 0
        self.told: list[str] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST":
            self.created += 1
            return httpx2.Response(200, json={"id": f"r/{self.created}"} | STARTED[self.name])
        assert request.url.raw_path.partition(b"?")[0].endswith(b"/r%2F1"), "an id is no path"
        if self.accepted not in (request.headers.get("authorization"), request.headers.get("x-goog-api-key")):
            status, said = REJECTED[self.name]
            return httpx2.Response(status, json=said)
        if self.looks:
            status, said = self.looks.pop(0)
            if isinstance(said, bytes):
                return httpx2.Response(status, content=said, headers={"content-type": "application/json"})
            return httpx2.Response(status, json=said)
        return httpx2.Response(200, json={"id": "r/1"} | DONE[self.name])

    def accepts(self, key: str) -> None:
        """Only this key, from now on."""
        self.accepted = f"Bearer {key}" if self.name == "openai" else key

    async def tell(self, response_id: str) -> None:
        self.told.append(response_id)

    @property
    def settings(self) -> ProviderSettings:
        providers = {self.name: {"background": True}}
        return load_settings(api_base_url="http://localhost:1", providers=providers).provider(self.name)

    def provider(self, key: str = "sim-key") -> Provider:
        return provider_factory(self.settings)(key)

    async def answer(self) -> LlmAnswer:
        provider = self.provider()
        try:
            async with asyncio.timeout(20):  # looking does not end by itself
                return await provider.complete(
                    REQUEST, timeout_seconds=5, resume_handle=ResumeHandle(None, self.tell)
                )
        finally:
            await provider.close()

    async def failure(self) -> ProviderError:
        with pytest.raises(ProviderError) as caught:
            await self.answer()
        return caught.value


@pytest.fixture
def endpoint(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    made = Endpoint(name)
    made.accepts("sim-key")
    options = {"transport": httpx2.MockTransport(made)}
    monkeypatch.setattr(f"fleet.providers.{name}.adapter.client_options", lambda **_: options)
    monkeypatch.setattr("fleet.providers.background_calls.FIRST_LOOK_SECONDS", 0.01)
    yield made


FAILED_LOOKS = {
    "429": (429, {"error": {"code": "rate_limit_exceeded", "message": "slower"}}),
    "500": (500, {"error": {"message": "oops"}}),
    "503": (503, "busy"),
    "nested": (503, b"[" * 100_000),
    "400": (400, {"error": {"message": "what?"}}),
    "{}": (200, {}),
    "[]": (200, []),
}


async def test_one_that_is_begun_tells_its_id(endpoint: Endpoint) -> None:
    answer = await endpoint.answer()
    assert (answer.text, answer.finish_reason, endpoint.told) == ("ano", "stop", ["r/1"])


@pytest.mark.parametrize("kind", FAILED_LOOKS)
async def test_a_failed_look_is_not_the_calls_failure(kind: str, endpoint: Endpoint) -> None:
    endpoint.looks = [FAILED_LOOKS[kind], FAILED_LOOKS[kind]]
    answer = await endpoint.answer()
    assert (answer.text, endpoint.created, endpoint.looks) == ("ano", 1, [])


async def test_a_lost_connection_is_not_the_calls_failure(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    failures = [httpx2.ReadError("reset"), httpx2.ReadTimeout("late"), httpx2.ConnectError("refused")]

    def answered(request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET" and failures:
            raise failures.pop()
        return endpoint(request)

    options = {"transport": httpx2.MockTransport(answered)}
    monkeypatch.setattr(f"fleet.providers.{name}.adapter.client_options", lambda **_: options)
    answer = await endpoint.answer()
    assert (answer.text, endpoint.created, failures) == ("ano", 1, [])


async def test_a_key_that_is_rejected_while_looking_leaves_the_call_to_the_next_key(endpoint: Endpoint) -> None:
    """The session takes the backend's new key, and the call goes on under its id."""
    keys = {False: "old-key", True: "new-key"}
    endpoint.accepts("new-key")

    async def key(fresh: bool) -> str:
        return keys[fresh]

    session = ProviderSession(endpoint.settings, endpoint.provider, key, Metrics())
    answer = await session.complete(REQUEST, timeout_seconds=5, resume_handle=ResumeHandle(None, endpoint.tell))
    await session.close()
    assert (answer.text, endpoint.created) == ("ano", 1)


async def test_while_no_key_is_accepted_the_call_stays_known(endpoint: Endpoint) -> None:
    endpoint.accepts("new-key")
    failure = await endpoint.failure()
    assert failure.failure_kind is FailureKind.KEY_REJECTED and failure.goes_on and not failure.counts
    assert endpoint.told == ["r/1"]
    attempts = Attempts(response_id="r/1")
    attempts.failed(failure)
    assert attempts.response_id == "r/1" and attempts.may_have_sent


FORBIDDEN = (403, {"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "not for this key"}})


async def test_a_look_that_stays_forbidden_ends_at_once_and_the_call_stays_known(endpoint: Endpoint) -> None:
    endpoint.looks = [FORBIDDEN] * 10
    failure = await endpoint.failure()
    assert failure.failure_kind is FailureKind.FORBIDDEN and failure.goes_on and len(endpoint.looks) == 7
    assert endpoint.told == ["r/1"]


async def test_a_look_that_was_forbidden_twice_says_nothing_about_the_call(endpoint: Endpoint) -> None:
    endpoint.looks = [FORBIDDEN, FORBIDDEN]
    assert (await endpoint.answer()).text == "ano"


async def test_one_that_is_not_there_any_more_may_have_been_paid(endpoint: Endpoint) -> None:
    endpoint.looks = [(404, {"error": {"code": "not_found", "message": "no such call"}})]
    failure = await endpoint.failure()
    assert failure.failure_kind is FailureKind.LOST_AFTER_SENDING and endpoint.told == ["r/1", ""]


@pytest.mark.parametrize("status", ["failed", "cancelled"])
async def test_one_that_came_to_nothing_is_not_picked_up_again(status: str, endpoint: Endpoint, name: str) -> None:
    endpoint.looks = [(200, {"id": "r/1"} | STARTED[name] | {"status": status})]
    failure = await endpoint.failure()
    assert failure.failure_kind is FailureKind.LOST_AFTER_SENDING and endpoint.told == ["r/1", ""]
