"""What the OpenAI adapter makes of answers that are not quite, or not at all, the API's."""

import json
from collections.abc import Callable
from typing import Any, Literal

import httpx2
import openai
import pytest

from fleet.attempts import Attempts
from fleet.config import ProviderSettings, load_settings
from fleet.errors import ProviderError
from fleet.meanings import Meaning
from fleet.measures import Measures
from fleet.providers.base import LlmAnswer, LlmRequest, Ticket
from fleet.providers.openai import OpenAIProvider
from fleet.providers.session import ProviderSession

REQUEST = LlmRequest("gpt-4o", "system", "user", 0.7, None, None, "key-1")
TEXT = {"type": "message", "content": [{"type": "output_text", "text": "ano"}]}
JSON = "application/json; charset=utf-8"


Endpoint = Callable[[httpx2.Request], httpx2.Response]


def settings(api: Literal["responses", "chat"], *, background: bool) -> ProviderSettings:
    section = {"api": api, "background": background}
    return load_settings(api_base_url="http://localhost:1", providers={"openai": section}).provider("openai")


def provider_at(endpoint: Endpoint, wanted: ProviderSettings, key: str = "sim-key") -> OpenAIProvider:
    """The adapter, of an endpoint that answers so."""
    provider = OpenAIProvider(wanted, key)
    client = httpx2.AsyncClient(transport=httpx2.MockTransport(endpoint))
    provider._client = openai.AsyncOpenAI(api_key=key, max_retries=0, http_client=client)
    return provider


async def answered(
    api: Literal["responses", "chat"], body: Any, kind: str = JSON, ticket: Ticket | None = None
) -> LlmAnswer:
    """The adapter's answer when the endpoint answers so."""
    text = body if isinstance(body, str) else json.dumps(body)

    def endpoint(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, text=text, headers={"content-type": kind})

    provider = provider_at(endpoint, settings(api, background=ticket is not None))
    try:
        return await provider.complete(REQUEST, timeout_seconds=5, ticket=ticket)
    finally:
        await provider.close()


@pytest.mark.parametrize("api", ["responses", "chat"])
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("<html>hello</html>", "text/html"),
        ("{}", JSON),
        ("[]", JSON),
        ("null", JSON),
        ("{", JSON),
        ("", JSON),
        ("[" * 100_000, JSON),
        ('{"id": "r", "output": [], "choices": [{"message": {"content": "x"}}]}', "text/plain"),
        ('{"id": 7, "output": "x", "choices": ["x"]}', JSON),
        ('{"id": "", "output": [], "choices": []}', JSON),
    ],
)
async def test_what_is_not_the_apis_is_told(api: Literal["responses", "chat"], body: str, kind: str) -> None:
    with pytest.raises(ProviderError) as caught:
        await answered(api, body, kind)
    assert caught.value.meaning is Meaning.UNUSABLE_BODY


async def test_a_response_without_usage_or_model_has_its_text() -> None:
    answer = await answered("responses", {"id": "r", "output": [{"type": "reasoning"}, TEXT, TEXT, 7]})
    assert (answer.text, answer.model, answer.finish_reason) == ("anoano", "gpt-4o", "stop")
    assert (answer.input_tokens, answer.output_tokens, answer.cached_input_tokens) == (0, 0, 0)


@pytest.mark.parametrize(
    ("changes", "finish"),
    [
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "refusal"),
        ({"status": "incomplete", "incomplete_details": None}, "other"),
        ({"output": [{"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}]}, "refusal"),
    ],
)
async def test_how_a_response_ended(changes: dict[str, Any], finish: str) -> None:
    answer = await answered("responses", {"id": "r", "output": [TEXT], "status": "completed"} | changes)
    assert answer.finish_reason == finish


@pytest.mark.parametrize("status", ["failed", "cancelled"])
async def test_a_response_that_failed_with_status_200_is_an_error(status: str) -> None:
    error = {"code": "rate_limit_exceeded", "message": "slower"}
    with pytest.raises(ProviderError):
        await answered("responses", {"id": "r", "output": [], "status": status, "error": error})


async def test_a_refusal_and_cached_tokens_of_a_chat_completion_are_seen() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    choice = {"finish_reason": "stop", "message": {"content": None, "refusal": "no"}}
    answer = await answered("chat", {"choices": [choice], "usage": usage, "model": "m"})
    assert (answer.text, answer.finish_reason, answer.model) == ("", "refusal", "m")
    assert (answer.input_tokens, answer.output_tokens, answer.cached_input_tokens) == (9, 2, 4)


async def test_the_tier_that_served_is_seen() -> None:
    response = {"id": "r", "output": [TEXT], "service_tier": "flex"}
    assert (await answered("responses", response)).tier == "flex"
    assert (await answered("responses", response | {"service_tier": "default"})).tier == ""
    completion = {"choices": [{"message": {"content": "ano"}}], "service_tier": "priority"}
    assert (await answered("chat", completion)).tier == "priority"
    assert (await answered("chat", completion | {"service_tier": None})).tier == ""


async def test_a_response_begun_in_the_background_tells_its_id() -> None:
    begun: list[str] = []

    async def started(response_id: str) -> None:
        begun.append(response_id)

    body = {"id": "r-1", "output": [TEXT], "status": "completed"}
    await answered("responses", body, ticket=Ticket(None, started))
    assert begun == ["r-1"]


class Background:
    """An endpoint with one response, which is done when it has been looked at often enough; each look that is
    scripted fails like that."""

    def __init__(self, *looks: tuple[int, Any], accepted: str = "sim-key") -> None:
        self.looks = list(looks)
        self.accepted = accepted
        self.created = 0
        self.told: list[str] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST":
            self.created += 1
            return self._json(200, {"id": f"r-{self.created}", "output": [], "status": "queued"})
        if request.headers["authorization"] != f"Bearer {self.accepted}":
            return self._json(401, {"error": {"code": "invalid_api_key", "message": "revoked"}})
        if self.looks:
            return self._json(*self.looks.pop(0))
        return self._json(200, {"id": "r-1", "output": [TEXT], "status": "completed"})

    def _json(self, status: int, body: Any) -> httpx2.Response:
        return httpx2.Response(status, json=body)

    async def tell(self, response_id: str) -> None:
        self.told.append(response_id)


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.providers.openai._FIRST_LOOK_SECONDS", 0.01)


FAILED_LOOKS = {
    "429": (429, {"error": {"code": "rate_limit_exceeded", "message": "slower"}}),
    "500": (500, {"error": {"message": "oops"}}),
    "503": (503, "<html>busy</html>"),
    "400": (400, {"error": {"message": "what?"}}),
    "{}": (200, {}),
}


@pytest.mark.parametrize("kind", FAILED_LOOKS)
async def test_a_failed_poll_is_not_the_calls_failure(kind: str, quick_looks: None) -> None:
    endpoint = Background(FAILED_LOOKS[kind], FAILED_LOOKS[kind])
    provider = provider_at(endpoint, settings("responses", background=True))
    answer = await provider.complete(REQUEST, timeout_seconds=5, ticket=Ticket(None, endpoint.tell))
    assert (answer.text, endpoint.created, endpoint.looks) == ("ano", 1, [])


async def test_a_key_that_is_rejected_while_polling_leaves_the_response_to_the_next_key(quick_looks: None) -> None:
    """The session takes the backend's new key, and the call goes on under its id."""
    endpoint, keys = Background(accepted="new-key"), {False: "old-key", True: "new-key"}
    wanted = settings("responses", background=True)

    async def key(fresh: bool) -> str:
        return keys[fresh]

    session = ProviderSession(wanted, lambda key: provider_at(endpoint, wanted, key), key, Measures())
    answer = await session.complete(REQUEST, timeout_seconds=5, ticket=Ticket(None, endpoint.tell))
    assert (answer.text, endpoint.created) == ("ano", 1)


async def test_while_no_key_is_accepted_the_response_stays_known(quick_looks: None) -> None:
    endpoint = Background(accepted="new-key")
    provider = provider_at(endpoint, settings("responses", background=True))
    with pytest.raises(ProviderError) as caught:
        await provider.complete(REQUEST, timeout_seconds=5, ticket=Ticket(None, endpoint.tell))
    assert caught.value.meaning is Meaning.KEY_REJECTED and caught.value.goes_on and not caught.value.counts
    assert endpoint.told == ["r-1"]
    attempts = Attempts(response_id="r-1")
    attempts.failed(caught.value)
    assert attempts.response_id == "r-1" and attempts.may_have_sent


async def test_a_response_that_is_not_there_any_more_may_have_been_paid(quick_looks: None) -> None:
    endpoint = Background((404, {"error": {"message": "no such response"}}))
    provider = provider_at(endpoint, settings("responses", background=True))
    with pytest.raises(ProviderError) as caught:
        await provider.complete(REQUEST, timeout_seconds=5, ticket=Ticket(None, endpoint.tell))
    assert caught.value.meaning is Meaning.LOST_AFTER_SENDING and endpoint.told == ["r-1", ""]
