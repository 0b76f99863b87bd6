"""What the OpenAI adapter makes of answers that are not quite, or not at all, the API's."""

import json
from collections.abc import Callable
from typing import Any, Literal

import httpx2
import openai
import pytest

from fleet.config import load_settings
from fleet.errors import ProviderError
from fleet.failures import FailureKind
from fleet.provider_settings import ProviderSettings
from fleet.providers.base import LlmAnswer, LlmRequest, ResumeHandle
from fleet.providers.openai.adapter import OpenAIProvider

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
    api: Literal["responses", "chat"], body: Any, kind: str = JSON, resume_handle: ResumeHandle | None = None
) -> LlmAnswer:
    """The adapter's answer when the endpoint answers so."""
    text = body if isinstance(body, str) else json.dumps(body)

    def endpoint(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, text=text, headers={"content-type": kind})

    provider = provider_at(endpoint, settings(api, background=resume_handle is not None))
    try:
        return await provider.complete(REQUEST, timeout_seconds=5, resume_handle=resume_handle)
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
    assert caught.value.failure_kind is FailureKind.UNUSABLE_BODY


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
    await answered("responses", body, resume_handle=ResumeHandle(None, started))
    assert begun == ["r-1"]
