"""An answer that came is paid: nothing that is done with it besides loses it."""

from dataclasses import replace

import pytest
from anthropic.types import Message, TextBlock, Usage
from prometheus_client import CollectorRegistry

from fleet.config import load_settings
from fleet.process.metrics import Metrics
from fleet.provider_settings import ProviderSettings
from fleet.providers.anthropic.adapter import _answer
from fleet.providers.base import LlmAnswer, LlmRequest, ResumeHandle
from fleet.providers.prices import usd_for
from fleet.providers.session import ProviderSession

REQUEST = LlmRequest("gpt-4o", "", "x", 0.7, None, None, "k")


class Answers:
    """A provider that answers."""

    def __init__(self, answer: LlmAnswer) -> None:
        self.answer = answer

    async def complete(
        self, request: LlmRequest, *, timeout_seconds: float, resume_handle: ResumeHandle | None = None
    ) -> LlmAnswer:
        return self.answer

    async def close(self) -> None:
        pass


def openai() -> ProviderSettings:
    return load_settings(api_base_url="http://localhost:1").provider("openai")


def session(answer: LlmAnswer, metrics: Metrics) -> ProviderSession:
    async def key(fresh: bool) -> str:
        return "sk-a-key-of-tests"

    return ProviderSession(openai(), lambda key: Answers(answer), key, metrics)


IMPOSSIBLE = {
    "more cached than came in": LlmAnswer("text", "gpt-4o", "stop", 10, 20, 30),
    "less than nothing": LlmAnswer("text", "gpt-4o", "stop", -1, 20),
    "nothing told": LlmAnswer("text", "gpt-4o", "stop", 0, 0),
}


@pytest.mark.parametrize("kind", IMPOSSIBLE)
async def test_whatever_an_endpoint_says_of_usage_the_answer_is_kept(kind: str) -> None:
    answer = IMPOSSIBLE[kind]
    assert await session(answer, Metrics()).complete(REQUEST, timeout_seconds=5) == answer


def test_usage_that_cannot_be_has_no_known_price() -> None:
    assert usd_for(openai(), "gpt-4o", 10, 20, 30) is None


async def test_an_answer_that_cannot_be_counted_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics, answer = Metrics(), LlmAnswer("text", "gpt-4o", "stop", 10, 20)

    def full(*arguments: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(metrics, "used", full)
    assert await session(answer, metrics).complete(REQUEST, timeout_seconds=5) == answer


async def test_what_is_counted_as_paid_is_what_no_simulator_answered() -> None:
    registry = CollectorRegistry()
    metrics, answer = Metrics(registry), LlmAnswer("text", "gpt-4o", "stop", 1000, 100)
    simulated = replace(answer, headers={"x-simulator": "true"})
    labels = {"provider": "openai", "queue": "llm-openai", "model": "gpt-4o"}
    for _ in range(2):
        await session(simulated, metrics).complete(REQUEST, timeout_seconds=5)
    assert registry.get_sample_value("fleet_provider_cost_usd_total", labels) == 0
    assert registry.get_sample_value("fleet_provider_simulated_cost_usd_total", labels) == pytest.approx(0.007)
    await session(answer, metrics).complete(REQUEST, timeout_seconds=5)
    assert registry.get_sample_value("fleet_provider_cost_usd_total", labels) == pytest.approx(0.0035)
    assert registry.get_sample_value("fleet_provider_simulated_cost_usd_total", labels) == pytest.approx(0.007)


def test_the_tier_of_an_answer_of_anthropics_is_seen() -> None:
    usage = {"input_tokens": 1, "output_tokens": 1, "service_tier": "standard", "speed": "fast"}
    message = Message.construct(content=[], model="claude", stop_reason="end_turn", usage=Usage.construct(**usage))
    assert _answer(message, {}).tier == "fast"


def test_an_endpoint_that_leaves_out_usage_is_understood() -> None:
    text = TextBlock(type="text", text="hello", citations=None)
    message = Message.construct(content=[text], model="claude", stop_reason="end_turn", usage=Usage.construct())
    found = _answer(message, {})
    assert (found.text, found.input_tokens, found.output_tokens) == ("hello", 0, 0)
