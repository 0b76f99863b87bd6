"""What exceeds a model's context window is refused; what may fit is not."""

import random
from dataclasses import replace

import pytest

from fleet.config import load_settings
from fleet.errors import ProviderError, SettingsError
from fleet.failures import FailureKind
from fleet.pipeline.prompts import estimate_tokens, min_tokens
from fleet.provider_settings import ProviderSettings
from fleet.providers.base import LlmRequest
from fleet.providers.context_windows import overflow_of, remedy_for, window_of

ENGLISH = "The quick brown fox isn't lazy; it jumps over the dog. "
CZECH = "Nejneobhospodařovávatelnější kávovary s mlýnkem, které stojí za to koupit. "
#: Texts with the tokens that OpenAI's o200k_base makes of them: each word here is one, digits come in threes.
COUNTED = [
    ("hello world " * 1000, 2000),
    ("don't " * 10, 10),
    ("(hello, world)", 4),
    ("=" * 64, 1),
    ("1234 " * 9, 18),
]


def provider(name: str = "openai", **section: object) -> ProviderSettings:
    return load_settings(api_base_url="http://localhost:1", providers={name: section}).provider(name)


def request(message: str, model: str = "gpt-4o", max_tokens: int | None = None) -> LlmRequest:
    return LlmRequest(model, "Write.", message, 0.7, None, max_tokens, "fleet-1")


@pytest.mark.parametrize(("text", "tokens"), COUNTED)
def test_the_lower_count_is_not_above_the_real_one(text: str, tokens: int) -> None:
    assert min_tokens(text) <= tokens


@pytest.mark.parametrize(
    "text", [ENGLISH, CZECH, "12345;678;9,5\n", "| 2024 | 17.5 |\n", "日本語の文章です。", "🙂" * 40]
)
def test_the_lower_count_is_below_the_usual_estimate(text: str) -> None:
    assert 0 < min_tokens(text) * 1.05 <= estimate_tokens(text) * 1.5
    assert min_tokens(text * 10) <= min_tokens(text) * 10


def test_white_space_counts_nothing() -> None:
    assert min_tokens(" \n\t\u00a0" * 100) == 0


@pytest.mark.parametrize("seed", range(20))
def test_the_lower_count_of_anything_is_at_most_one_token_a_character(seed: int) -> None:
    chance = random.Random(seed)
    text = "".join(chr(chance.choice([chance.randint(32, 126), chance.randint(160, 0xD7FF)])) for _ in range(500))
    assert 0 <= min_tokens(text) <= len(text)


@pytest.mark.parametrize(
    ("name", "model", "window"),
    [
        ("openai", "gpt-4", 8_192),
        ("openai", "gpt-4o", 128_000),
        ("anthropic", "claude-sonnet-4-5", 200_000),
        ("gemini", "gemini-2.5-flash", 1_048_576),
        ("openai", "gpt-unheard-of", None),
        ("groq", "some-model", None),
        ("ollama", "gpt-4o", None),
    ],
)
def test_a_window_comes_from_the_price_data_of_the_seller(name: str, model: str, window: int | None) -> None:
    kind = {} if name in ("openai", "anthropic", "gemini") else {"base_url": "http://127.0.0.1:9/v1"}
    assert window_of(provider(name, **kind), model) == window


def test_a_window_of_the_settings_wins_and_0_turns_the_check_off() -> None:
    long = request(ENGLISH * 1000)
    own = {"base_url": "http://127.0.0.1:9/v1"}
    assert overflow_of(provider("ollama", **own), long) is None
    assert "has 4,096" in str(overflow_of(provider("ollama", context_window=4096, **own), long))
    assert overflow_of(provider(), request(ENGLISH * 1000, "gpt-4")) is not None
    assert overflow_of(provider(context_window=0), request(ENGLISH * 1000, "gpt-4")) is None


def test_each_model_of_a_server_may_have_a_window_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_PROVIDERS__OLLAMA__BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("FLEET_PROVIDERS__OLLAMA__CONTEXT_WINDOW", '{"llama3:8b": 8192}')
    several = provider("openai", context_window={"gpt-4": 16_000})
    assert (window_of(several, "gpt-4"), window_of(several, "gpt-4o")) == (16_000, 128_000)
    all_others = provider("openai", context_window={"gpt-4": 16_000, "*": 50})
    assert (window_of(all_others, "gpt-4"), window_of(all_others, "gpt-4o")) == (16_000, 50)
    ollama = load_settings(api_base_url="http://localhost:1").provider("ollama")
    assert (window_of(ollama, "llama3:8b"), window_of(ollama, "qwen3")) == (8_192, None)
    monkeypatch.setenv("FLEET_PROVIDERS__OLLAMA__CONTEXT_WINDOW", "4096")
    assert window_of(load_settings(api_base_url="http://localhost:1").provider("ollama"), "qwen3") == 4_096


@pytest.mark.parametrize("value", ["-1", "many", '{"a": -1}', '{"a": "x"}', "1.5"])
def test_a_window_that_is_no_number_of_tokens_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("FLEET_PROVIDERS__OPENAI__CONTEXT_WINDOW", value)
    with pytest.raises(SettingsError) as caught:
        load_settings(api_base_url="http://localhost:1")
    assert "FLEET_PROVIDERS__OPENAI__CONTEXT_WINDOW" in str(caught.value) and "must be a whole" in str(
        caught.value
    )
    assert "\n" not in str(caught.value), str(caught.value)


def test_what_may_fit_is_not_refused() -> None:
    words = "slovo " * 8_000  # 8,000 tokens at least, and gpt-4 has 8,192
    assert overflow_of(provider(), request(words, "gpt-4")) is None
    assert estimate_tokens(words) > 8_192
    overflow = overflow_of(provider(), request(words + words, "gpt-4"))
    assert overflow is not None and overflow.window == 8_192 and overflow.least >= 16_000


@pytest.mark.parametrize(
    ("model", "max_tokens", "refused"),
    [
        ("claude-opus-4-1", 30_000, True),
        ("claude-opus-4-1", 1_000, False),
        ("claude-opus-4-1", None, True),  # its own maximum, which is sent
        ("claude-sonnet-4-5", 64_000, False),  # stops at the end of its window
    ],
)
def test_max_tokens_counts_where_the_model_counts_it(model: str, max_tokens: int | None, refused: bool) -> None:
    overflow = overflow_of(provider("anthropic"), request("slovo " * 185_000, model, max_tokens))
    assert (overflow is not None) is refused
    if overflow is not None:
        assert f"its max_tokens of {overflow.output:,} count together" in str(overflow)


def test_a_prompt_that_is_itself_too_long_is_to_be_shortened() -> None:
    long = replace(request("Kávovary"), system_prompt=ENGLISH * 1000)
    assert remedy_for(long).startswith("shorten the assistant's prompt, let it read less")
    assert remedy_for(request(ENGLISH * 1000)) == ""
    usual = ProviderError(FailureKind.CONTEXT_EXCEEDED, "openai", "too long").remedy
    assert "read less" in usual and "shorten its prompt" in usual
