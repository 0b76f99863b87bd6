"""What an answer costs, by what its provider charges for."""

from typing import Any

import pytest

from fleet.config import Kind, ProviderSettings, load_settings
from fleet.providers.base import LlmAnswer
from fleet.providers.prices import billed_in, cost_of

RESPONSES = {
    "model": "gpt-5.6",
    "usage": {
        "input_tokens": 10_000,
        "output_tokens": 500,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 9_000},
        "output_tokens_details": {"reasoning_tokens": 100},
    },
}
CHAT = {
    "model": "gpt-4o",
    "usage": {"prompt_tokens": 1000, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 800}},
}
MESSAGE = {
    "model": "claude-sonnet-4-5",
    "usage": {
        "input_tokens": 1_000,
        "output_tokens": 100,
        "cache_read_input_tokens": 2_000,
        "cache_creation_input_tokens": 9_000,
        "cache_creation": {"ephemeral_5m_input_tokens": 5_000, "ephemeral_1h_input_tokens": 4_000},
    },
}
GEMINI = {
    "usageMetadata": {
        "promptTokenCount": 1000,
        "candidatesTokenCount": 10,
        "thoughtsTokenCount": 40,
        "cachedContentTokenCount": 800,
    }
}
# By the price lists of 2026-11: dollars a million tokens, of input, cache reads, writes (5 min, 1 h) and output.
CASES = [
    ("openai", "gpt-5.6", "responses", RESPONSES, 4 * 1_000 + 5 * 9_000 + 20 * 500),
    ("openai", "gpt-4o", "chat", CHAT, 2.5 * 200 + 1.25 * 800 + 10 * 10),
    (
        "anthropic",
        "claude-sonnet-4-5",
        "default",
        MESSAGE,
        3 * 1_000 + 0.3 * 2_000 + 3.75 * 5_000 + 6 * 4_000 + 15 * 100,
    ),
    ("gemini", "gemini-2.5-flash", "default", GEMINI, 0.3 * 200 + 0.03 * 800 + 2.5 * 50),
]


def provider(name: str) -> ProviderSettings:
    return load_settings(api_base_url="http://localhost:1").provider(name)


@pytest.mark.parametrize(("kind", "model", "flavor", "body", "millionths"), CASES, ids=[one[1] for one in CASES])
def test_all_that_is_charged_for_is_priced(
    kind: Kind, model: str, flavor: str, body: dict[str, Any], millionths: float
) -> None:
    answer = LlmAnswer("text", model, "stop", billed=billed_in(kind, flavor, body))
    assert cost_of(provider(kind), model, answer).usd == pytest.approx(millionths / 1e6)


@pytest.mark.parametrize(
    "body",
    [{}, {"usage": None}, {"usage": {"input_tokens": "many"}}, {"usage": {"input_tokens": 1}}, {"usage": []}],
    ids=str,
)
def test_usage_that_cannot_be_read_leaves_the_counts_that_are_known(body: dict[str, Any]) -> None:
    billed = billed_in("openai", "responses", body)
    assert billed == {}
    assert cost_of(provider("openai"), "gpt-4o", LlmAnswer("text", "gpt-4o", "stop", 1000, 100, billed=billed)).usd


def test_usage_that_contradicts_itself_falls_back_to_the_counts_that_are_known() -> None:
    answer = LlmAnswer("text", "gpt-4o", "stop", 1000, 100, billed={"input_tokens": 1, "cache_read_tokens": 5})
    assert cost_of(provider("openai"), "gpt-4o", answer).usd == pytest.approx((2.5 * 1000 + 10 * 100) / 1e6)
