"""What the Gemini adapter makes of the Interactions API's answers."""

import json
from typing import Any

import httpx2
import pytest

from fleet.config import load_settings
from fleet.errors import ProviderError
from fleet.failures import FailureKind
from fleet.providers.base import LlmAnswer, LlmRequest, ResumeHandle
from fleet.providers.gemini.adapter import GeminiProvider
from fleet.providers.prices import cost_of

MODEL = "gemini-2.5-flash"
REQUEST = LlmRequest(MODEL, "Be brief.", "user", 0.7, 0.9, None, "key-1")
SETTINGS = load_settings(api_base_url="http://localhost:1", providers={"gemini": {"background": True}}).provider(
    "gemini"
)
OUTPUT = {"type": "model_output", "content": [{"type": "text", "text": "an"}, {"type": "text", "text": "o"}]}
THOUGHT = {"type": "thought", "signature": "aGVsbG8=", "summary": [{"type": "text", "text": "hmm"}]}
JSON = "application/json; charset=utf-8"


async def answered(
    monkeypatch: pytest.MonkeyPatch,
    body: Any,
    kind: str = JSON,
    status: int = 200,
    requests: list[httpx2.Request] | None = None,
) -> LlmAnswer:
    """The adapter's answer when the endpoint answers so at once."""
    text = body if isinstance(body, str) else json.dumps(body)

    def endpoint(request: httpx2.Request) -> httpx2.Response:
        if requests is not None:
            requests.append(request)
        return httpx2.Response(status, text=text, headers={"content-type": kind})

    async def started(response_id: str) -> None:
        pass

    options = {"transport": httpx2.MockTransport(endpoint)}
    monkeypatch.setattr("fleet.providers.gemini.adapter.client_options", lambda **_: options)
    provider = GeminiProvider(SETTINGS, "sim-key")
    try:
        return await provider.complete(REQUEST, timeout_seconds=5, resume_handle=ResumeHandle(None, started))
    finally:
        await provider.close()


async def failing(monkeypatch: pytest.MonkeyPatch, *answer: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await answered(monkeypatch, *answer)
    return caught.value


async def test_what_is_sent_is_what_generate_content_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[httpx2.Request] = []
    await answered(monkeypatch, {"id": "i", "status": "completed"}, requests=requests)
    (request,) = requests
    assert (request.method, request.url.path) == ("POST", "/v1beta/interactions")
    assert (request.headers["idempotency-key"], request.headers["x-goog-api-key"]) == ("key-1", "sim-key")
    assert json.loads(request.content) == {
        "model": MODEL,
        "system_instruction": "Be brief.",
        "input": "user",
        "generation_config": {"temperature": 0.7, "top_p": 0.9, "max_output_tokens": 65_536},
        "background": True,
        "store": True,
    }


async def test_text_is_the_models_output_and_thinking_is_paid_as_output(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = {
        "total_input_tokens": 1000,
        "total_cached_tokens": 800,
        "total_output_tokens": 10,
        "total_thought_tokens": 40,
        "total_tokens": 1050,
    }
    body = {"id": "i", "status": "completed", "model": "m-1", "usage": usage}
    answer = await answered(monkeypatch, body | {"steps": [THOUGHT, OUTPUT, {"type": "new"}, 7]})
    assert (answer.text, answer.model, answer.finish_reason) == ("ano", "m-1", "stop")
    assert (answer.input_tokens, answer.output_tokens, answer.cached_input_tokens) == (1000, 50, 800)
    # The price list of 2026-11: dollars a million tokens of input, cache reads and output.
    millionths = 0.3 * 200 + 0.03 * 800 + 2.5 * 50
    assert answer.billed and cost_of(SETTINGS, MODEL, answer).usd == pytest.approx(millionths / 1e6)


async def test_an_interaction_without_usage_model_or_steps_is_an_empty_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = await answered(monkeypatch, {"id": "i", "status": "completed"})
    assert (answer.text, answer.model, answer.input_tokens, answer.output_tokens) == ("", MODEL, 0, 0)
    assert answer.billed == {}


@pytest.mark.parametrize(
    ("status", "finish"),
    [("incomplete", "length"), ("budget_exceeded", "length"), ("requires_action", "other"), ("new", "other")],
)
async def test_how_an_interaction_ended(status: str, finish: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = await answered(monkeypatch, {"id": "i", "status": status, "steps": [OUTPUT]})
    assert (answer.finish_reason, answer.text) == (finish, "ano")


@pytest.mark.parametrize(
    ("errors", "failure_kind"),
    [
        ([{"code": "too_many_requests", "message": "slower"}], FailureKind.RATE),
        ([{"code": "internal", "message": "oops"}], FailureKind.OUTAGE),
        ([], FailureKind.LOST_AFTER_SENDING),
    ],
)
async def test_an_interaction_that_failed_says_why(
    errors: list[dict[str, Any]], failure_kind: FailureKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = await failing(monkeypatch, {"id": "i", "status": "failed", "errors": errors})
    assert error.failure_kind is failure_kind
    assert all(reason["message"] in str(error) for reason in errors)


@pytest.mark.parametrize(
    ("status", "said", "failure_kind"),
    [
        (429, {"code": "too_many_requests", "message": "quota"}, FailureKind.RATE),
        (400, {"code": "invalid_request", "message": "no"}, FailureKind.BAD_REQUEST),
        (404, {"code": "not_found", "message": "no such model"}, FailureKind.NOT_FOUND),
        (503, {"code": "unavailable", "message": "busy"}, FailureKind.OUTAGE),
        (503, {"code": 503, "message": "busy", "status": "UNAVAILABLE"}, FailureKind.OUTAGE),
        (502, "<html>", FailureKind.LOST_AFTER_SENDING),
        (307, {}, FailureKind.UNUSABLE_BODY),
    ],
)
async def test_an_error_is_understood_in_either_of_googles_forms_and_sent_once(
    status: int, said: Any, failure_kind: FailureKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[httpx2.Request] = []
    with pytest.raises(ProviderError) as caught:
        await answered(monkeypatch, {"error": said}, JSON, status, requests)
    assert (caught.value.failure_kind, len(requests)) == (failure_kind, 1)


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
        ('{"id": "i", "status": "completed"}', "text/plain"),
        ('{"id": 7, "status": "completed"}', JSON),
        ('{"id": "i"}', JSON),
    ],
)
async def test_what_is_not_the_apis_is_told(body: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error = await failing(monkeypatch, body, kind)
    assert error.failure_kind is FailureKind.UNUSABLE_BODY
