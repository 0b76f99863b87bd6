"""What an answer costs, by what its provider charges for."""

from typing import Any

import genai_prices.data
import pytest
from genai_prices import data_snapshot

from fleet.config import load_settings
from fleet.provider_settings import Kind, ProviderSettings
from fleet.providers.base import LlmAnswer
from fleet.providers.prices import _price_of, billed_in, cost_of, load_prices, tier_of, usd_for

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


@pytest.mark.parametrize(("kind", "model", "flavor", "body", "millionths"), CASES, ids=[row[1] for row in CASES])
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


def test_a_providers_own_prices_replace_the_known_ones_and_a_local_model_costs_nothing() -> None:
    prices = {"input": 1, "output": 4, "cached_input": 0.5}
    providers = {"openai": {"prices": prices}, "local": {"base_url": "http://127.0.0.1:1/v1", "prices": 0}}
    own = load_settings(api_base_url="http://localhost:1", providers=providers)
    answer = LlmAnswer("text", "gpt-4o", "stop", 1_000, 100, 400, billed={"input_tokens": 7}, tier="flex")
    cost = cost_of(own.provider("openai"), "gpt-4o", answer)
    assert cost.usd == pytest.approx((600 * 1 + 400 * 0.5 + 100 * 4) / 1e6)
    assert cost.price_version == "prices of the settings"
    assert cost_of(own.provider("local"), "qwen3", answer).usd == 0


USED = {"input_tokens": 1_000, "output_tokens": 100}
# The tier that an answer names, and dollars a million tokens of input and output at that tier.
TIERS = [
    ("openai", "gpt-5", "flex", 0.625, 5),
    ("openai", "gpt-5", "priority", 2.5, 20),
    ("anthropic", "claude-opus-4-8", "fast", 10, 50),
    ("gemini", "gemini-3.8-flash-tts", "flex", 0.25, 4.5),
]
# Tiers that the price list does not have, and what it has for the standard one.
UNPRICED_TIERS = [
    ("openai", "gpt-5", "scale", 1.25, 10),
    ("openai", "gpt-4o", "flex", 2.5, 10),
    ("anthropic", "claude-sonnet-4-5", "priority", 3, 15),
    ("anthropic", "claude-opus-4-8", "priority+fast", 5, 25),
    ("gemini", "gemini-2.5-flash", "flex", 0.3, 2.5),
]


def answer_at(tier: str, model: str) -> LlmAnswer:
    return LlmAnswer("text", model, "stop", 1_000, 100, billed=USED, tier=tier)


@pytest.mark.parametrize(("kind", "model", "tier", "into", "out"), TIERS)
def test_a_tier_that_the_price_list_has_is_priced_exactly(
    kind: str, model: str, tier: str, into: float, out: float
) -> None:
    cost = cost_of(provider(kind), model, answer_at(tier, model))
    assert cost.usd == pytest.approx((1_000 * into + 100 * out) / 1e6)
    assert cost.note == ""


@pytest.mark.parametrize(("kind", "model", "tier", "into", "out"), UNPRICED_TIERS)
def test_a_tier_that_the_price_list_does_not_have_is_noted(
    kind: str, model: str, tier: str, into: float, out: float
) -> None:
    cost = cost_of(provider(kind), model, answer_at(tier, model))
    assert cost.usd == pytest.approx((1_000 * into + 100 * out) / 1e6)
    assert cost.note == f"priced at the standard tier; the answer says {tier}"


def test_a_tier_also_prices_the_counts_that_are_known_where_the_usage_cannot_be_read() -> None:
    answer = LlmAnswer("text", "gpt-5", "stop", 1_000, 100, tier="flex")
    assert cost_of(provider("openai"), "gpt-5", answer).usd == pytest.approx((625 + 500) / 1e6)


@pytest.mark.parametrize(
    ("said", "tier"),
    [
        ((None,), ""),
        (("default",), ""),
        (("on_demand",), ""),
        (("standard", "standard"), ""),
        (("standard", "fast"), "fast"),
        (("priority", None), "priority"),
        (("FLEX",), "flex"),
        (("auto",), "auto"),
        (({"tier": 1},), "{'tier': 1}"),
        (("x" * 1000,), "x" * 40),
    ],
    ids=str,
)
def test_only_a_tier_other_than_the_standard_one_is_named(said: tuple[object, ...], tier: str) -> None:
    assert tier_of(*said) == tier


def test_an_answer_that_says_so_is_simulated_also_where_no_price_is_known() -> None:
    answer = LlmAnswer("text", "gpt-4o", "stop", 1_000, 100, headers={"x-simulator": "true"})
    assert cost_of(provider("openai"), "gpt-4o", answer).simulated
    assert cost_of(provider("openai"), "my-model", answer).simulated
    paid = LlmAnswer("text", "gpt-4o", "stop", 1_000, 100, headers={"x-request-id": "1"})
    assert not cost_of(provider("openai"), "gpt-4o", paid).simulated


@pytest.mark.parametrize("name", ["openai", "anthropic", "gemini", "groq", "lasting"])
def test_a_process_keeps_the_prices_of_its_own_provider(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [*genai_prices.data.providers]
    added = {"groq": {"kind": "openai", "base_url": "http://localhost:1"}}
    settings = load_settings(
        api_base_url="http://localhost:1", providers=added | {"lasting": added["groq"]}
    ).provider(name)
    models = [model.id for vendor in whole for model in vendor.models[::5]]
    before = {model: usd_for(settings, model, 1_000, 100) for model in models}
    monkeypatch.setattr(genai_prices.data, "providers", [*whole])
    load_prices(settings)
    left = genai_prices.data.providers
    monkeypatch.setattr(
        data_snapshot, "_custom_snapshot", data_snapshot.DataSnapshot(left, from_auto_update=False)
    )
    _price_of.cache_clear()
    assert {model: usd_for(settings, model, 1_000, 100) for model in models} == before
    assert len(left) <= 2


def test_an_answers_price_is_computed_once() -> None:
    answer = LlmAnswer("text", "gpt-4o", "stop", 7_654_321, 1)
    before = _price_of.cache_info().misses
    costs = [cost_of(provider("openai"), "gpt-4o", answer) for _ in range(3)]
    assert costs[0] == costs[1] == costs[2]
    assert _price_of.cache_info().misses - before <= 2, "once, or twice where a minute ended meanwhile"
