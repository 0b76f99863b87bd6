"""The simulator in the eyes of the unmodified SDKs: their own exception classes, headers and retries."""

from collections.abc import Callable
from typing import Any

import anthropic
import httpx
import openai
import pytest
from google import genai
from google.genai import errors

from fleet.devstack.simulator.testing import RunningSimulator, running_simulator

KEY = "sim-key-12345678"


def ask_openai(simulator: RunningSimulator, retries: int = 0) -> str:
    client = openai.OpenAI(api_key=KEY, base_url=f"{simulator.base_url}/v1", max_retries=retries)
    with client:
        return client.responses.create(model="gpt-4o", input="Kávovar", timeout=5).output_text


def ask_openai_chat(simulator: RunningSimulator, retries: int = 0) -> str:
    client = openai.OpenAI(api_key=KEY, base_url=f"{simulator.base_url}/v1", max_retries=retries)
    messages: list[Any] = [{"role": "user", "content": "Kávovar"}]
    with client:
        answer = client.chat.completions.create(model="gpt-4o", messages=messages, timeout=5)
    return answer.choices[0].message.content or ""


def ask_anthropic(simulator: RunningSimulator, retries: int = 0) -> str:
    client = anthropic.Anthropic(api_key=KEY, base_url=simulator.base_url, max_retries=retries)
    messages: list[Any] = [{"role": "user", "content": "Kávovar"}]
    with client:
        answer = client.messages.create(model="claude-sonnet-4-6", max_tokens=1000, messages=messages, timeout=5)
    return "".join(block.text for block in answer.content if block.type == "text")


def ask_gemini(simulator: RunningSimulator, retries: int = 0) -> str:
    options = genai.types.HttpOptions(base_url=simulator.base_url, api_version="v1beta", timeout=5000)
    client = genai.Client(api_key=KEY, http_options=options)
    try:
        return client.models.generate_content(model="gemini-2.5-flash", contents="Kávovar").text or ""
    finally:
        client.close()


Ask = Callable[..., str]
ASKING: dict[str, tuple[str, Ask]] = {
    "openai": ("openai", ask_openai),
    "openai-chat": ("openai", ask_openai_chat),
    "anthropic": ("anthropic", ask_anthropic),
    "gemini": ("gemini", ask_gemini),
}
CLASSES: dict[str, dict[str, type[Exception]]] = {
    "429": {
        "openai": openai.RateLimitError,
        "anthropic": anthropic.RateLimitError,
        "gemini": errors.ClientError,
    },
    "quota": {"openai": openai.RateLimitError, "gemini": errors.ClientError},
    "500": {
        "openai": openai.InternalServerError,
        "anthropic": anthropic.InternalServerError,
        "gemini": errors.ServerError,
    },
    "529": {"anthropic": anthropic.OverloadedError},
    "401": {"openai": openai.AuthenticationError, "anthropic": anthropic.AuthenticationError},
    "403": {
        "openai": openai.PermissionDeniedError,
        "anthropic": anthropic.PermissionDeniedError,
        "gemini": errors.ClientError,
    },
    "404": {"openai": openai.NotFoundError, "anthropic": anthropic.NotFoundError, "gemini": errors.ClientError},
    "400": {
        "openai": openai.BadRequestError,
        "anthropic": anthropic.BadRequestError,
        "gemini": errors.ClientError,
    },
}
MATRIX = [
    (kind, case, classes[provider])
    for kind, classes in CLASSES.items()
    for case, (provider, _) in ASKING.items()
    if provider in classes
]


@pytest.mark.parametrize("case", sorted(ASKING))
def test_each_sdk_gets_an_answer_that_says_that_it_is_simulated(case: str, simulator: RunningSimulator) -> None:
    assert ASKING[case][1](simulator).startswith("[SIMULATOR]")


def test_openai_and_anthropic_list_their_own_models_at_the_address_that_they_share(
    simulator: RunningSimulator,
) -> None:
    with openai.OpenAI(api_key=KEY, base_url=f"{simulator.base_url}/v1") as client:
        assert "gpt-4o" in [model.id for model in client.models.list()]
    with anthropic.Anthropic(api_key=KEY, base_url=simulator.base_url) as client:
        assert "claude-haiku-4-5" in [model.id for model in client.models.list()]
    assert httpx.get(f"{simulator.base_url}/v1/models").json()["error"]["type"] == "invalid_request_error"
    listed = httpx.get(f"{simulator.base_url}/v1/models", headers={"anthropic-version": "2023-06-01"})
    assert listed.json()["error"]["type"] == "authentication_error"


@pytest.mark.parametrize(("kind", "case", "expected"), MATRIX, ids=[f"{kind}-{case}" for kind, case, _ in MATRIX])
def test_each_sdk_raises_its_own_exception(
    kind: str, case: str, expected: type[Exception], simulator: RunningSimulator
) -> None:
    provider, ask = ASKING[case]
    simulator.fault(provider, kind)
    with pytest.raises(expected) as caught:
        ask(simulator)
    assert type(caught.value) is expected
    assert len(simulator.ledger()) == 1


@pytest.mark.parametrize("case", ["openai", "anthropic"])
def test_an_sdk_with_its_retries_on_sends_again_and_the_ledger_shows_it(
    case: str, simulator: RunningSimulator
) -> None:
    provider, ask = ASKING[case]
    simulator.fault(provider, "500", count=2, retry_after=0.01)
    assert ask(simulator, retries=2)
    assert [call["status"] for call in simulator.ledger()] == [500, 500, 200]


def test_spent_quota_tells_the_sdk_not_to_retry(simulator: RunningSimulator) -> None:
    simulator.fault("openai", "quota", count=3)
    with pytest.raises(openai.RateLimitError) as caught:
        ask_openai(simulator, retries=2)
    assert caught.value.code == "insufficient_quota"
    assert len(simulator.ledger()) == 1


def test_geminis_429_carries_the_wait_and_the_quota_in_its_details(simulator: RunningSimulator) -> None:
    simulator.put("limits", provider="gemini", rpm=1)
    ask_gemini(simulator)
    with pytest.raises(errors.ClientError) as caught:
        ask_gemini(simulator)
    details = {detail["@type"].rpartition(".")[2]: detail for detail in caught.value.details["error"]["details"]}
    assert 55 < float(details["RetryInfo"]["retryDelay"].rstrip("s")) <= 60
    assert "PerMinute" in details["QuotaFailure"]["violations"][0]["quotaId"]


def test_the_same_seed_gives_the_same_answers_and_another_one_others() -> None:
    answers = []
    for seed in (1, 1, 2):
        with running_simulator(seed) as simulator:
            answers.append(ask_openai(simulator))
    assert answers[0] == answers[1] != answers[2]


BAD_CONTROLS = [
    ("POST", "faults", {"provider": "openai", "kind": "fire"}, "kind must be one of"),
    ("POST", "faults", {"kind": "429"}, "provider must be named"),
    ("POST", "faults", {"provider": "openai", "kind": "429", "rate": 2}, "at most 1"),
    ("POST", "faults", {"provider": "openai", "kind": "429", "count": 1, "rate": 0.5}, "give one of"),
    ("PUT", "limits", {"provider": "openai", "rpm": "many"}, "rpm must be a number"),
    ("PUT", "latency", {"provider": "openai", "median_seconds": -1}, "median_seconds must be a number"),
    ("PUT", "tenant", {"provider": "openai"}, "rpm must be a number"),
]


@pytest.mark.parametrize(("method", "control", "body", "said"), BAD_CONTROLS)
def test_a_wrong_control_is_refused_by_name(
    method: str, control: str, body: dict[str, Any], said: str, simulator: RunningSimulator
) -> None:
    answer = httpx.request(method, f"{simulator.base_url}/{control}", json=body, trust_env=False, verify=False)
    assert answer.status_code == 400 and said in answer.json()["error"]


def test_a_share_of_the_calls_fails_and_faults_can_be_taken_back(simulator: RunningSimulator) -> None:
    simulator.fault("openai", "500", rate=0.5)
    statuses = []
    for _ in range(30):
        body = {"model": "gpt-4o", "input": "x"}
        headers = {"Authorization": f"Bearer {KEY}"}
        url = f"{simulator.base_url}/v1/responses"
        statuses.append(httpx.post(url, json=body, headers=headers, trust_env=False, verify=False).status_code)
    assert 5 <= statuses.count(500) <= 25 and set(statuses) == {200, 500}
    httpx.delete(f"{simulator.base_url}/faults", trust_env=False, verify=False)
    assert ask_openai(simulator)
