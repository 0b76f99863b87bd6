"""The options of a model: what the unmodified SDKs send for them, as the simulator receives it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from fleet.config import load_settings
from fleet.devstack.simulator.calls import tokens_of
from fleet.devstack.simulator.testing import RunningSimulator
from fleet.errors import ProviderError
from fleet.failures import FailureKind
from fleet.model_options import ModelOptions
from fleet.provider_settings import PriceSettings, ProviderSettings
from fleet.providers.base import LlmAnswer, LlmRequest, Provider, ResumeHandle
from fleet.providers.options import refused_options
from fleet.providers.prices import cost_of
from fleet.providers.registry import provider_factory

#: Provider and further settings by case.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "responses": ("openai", {}),
    "chat": ("openai", {"api": "chat"}),
    "anthropic": ("anthropic", {}),
    "gemini": ("gemini", {}),
    "interactions": ("gemini", {"background": True}),
    "own server": ("groq", {"kind": "openai"}),
}


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.providers.background_calls.FIRST_LOOK_SECONDS", 0.02)


def settings_for(case: str, simulator: RunningSimulator) -> ProviderSettings:
    name, further = CASES[case]
    section = {"base_url": simulator.provider_url(name)} | further
    return load_settings(api_base_url="http://localhost:1", providers={name: section}).provider(name)


@asynccontextmanager
async def provider(case: str, simulator: RunningSimulator) -> AsyncIterator[Provider]:
    client = provider_factory(settings_for(case, simulator))("sim-key-12345678")
    try:
        yield client
    finally:
        await client.close()


async def asked(
    case: str,
    simulator: RunningSimulator,
    model: str,
    max_tokens: int | None = 4000,
    key: str = "fleet-1",
    **options: Any,
) -> LlmAnswer:
    """The answer to a request with these options."""
    given = ModelOptions(**options) if options else None
    request = LlmRequest(model, "Be brief.", "Topic: coffee", 0.7, None, max_tokens, key, options=given)

    async def started(response_id: str) -> None:
        pass

    async with provider(case, simulator) as client:
        handle = ResumeHandle(None, started) if case == "interactions" else None
        return await client.complete(request, timeout_seconds=10, resume_handle=handle)


@pytest.mark.parametrize(
    ("case", "model", "options", "sent"),
    [
        ("responses", "gpt-5.1", {"reasoning_effort": "high"}, {"reasoning": {"effort": "high"}}),
        (
            "responses",
            "gpt-5.1",
            {
                "reasoning_effort": "low",
                "provider_options": {"reasoning": {"summary": "auto"}, "metadata": {"a": "b"}},
            },
            {"reasoning": {"effort": "low", "summary": "auto"}, "metadata": {"a": "b"}},
        ),
        ("chat", "gpt-5.1", {"reasoning_effort": "none"}, {"reasoning_effort": "none"}),
        ("chat", "gpt-4o", {"stop": ["END", "###"], "seed": 7}, {"stop": ["END", "###"], "seed": 7}),
        (
            "own server",
            "llama",
            {"reasoning_effort": "low", "stop": ["END"], "seed": 0, "provider_options": {"top_k": 3}},
            {"reasoning_effort": "low", "stop": ["END"], "seed": 0, "top_k": 3},
        ),
        (
            "anthropic",
            "claude-sonnet-4-5",
            {"thinking_budget": 1024, "stop": ["END"], "provider_options": {"metadata": {"user_id": "a"}}},
            {
                "thinking": {"type": "enabled", "budget_tokens": 1024},
                "stop_sequences": ["END"],
                "metadata": {"user_id": "a"},
                "temperature": None,
            },
        ),
        (
            "anthropic",
            "claude-sonnet-4-5",
            {"thinking_budget": 0},
            {"thinking": {"type": "disabled"}, "temperature": 0.7},
        ),
        (
            "anthropic",
            "claude-opus-4-5",
            {"reasoning_effort": "low"},
            {"output_config": {"effort": "low"}, "thinking": None, "temperature": 0.7},
        ),
        (
            "anthropic",
            "claude-opus-5",
            {"reasoning_effort": "xhigh"},
            {"output_config": {"effort": "xhigh"}, "thinking": {"type": "adaptive"}, "temperature": None},
        ),
        (
            "anthropic",
            "claude-sonnet-4-6",
            {"reasoning_effort": "max", "thinking_budget": 2048},
            {
                "output_config": {"effort": "max"},
                "thinking": {"type": "enabled", "budget_tokens": 2048},
                "temperature": None,
            },
        ),
        (
            "gemini",
            "gemini-2.5-flash",
            {
                "thinking_budget": 512,
                "stop": ["END"],
                "seed": 7,
                "provider_options": {
                    "generation_config": {"topK": 40},
                    "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
                },
            },
            {
                "generationConfig": {
                    "temperature": 0.7,
                    "maxOutputTokens": 4000,
                    "thinkingConfig": {"thinking_budget": 512},
                    "stopSequences": ["END"],
                    "seed": 7,
                    "topK": 40,
                },
                "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
            },
        ),
        (
            "interactions",
            "gemini-3.5-flash",
            {
                "reasoning_effort": "low",
                "stop": ["END"],
                "seed": 7,
                "provider_options": {
                    "generationConfig": {"thinking_summaries": "none"},
                    "labels": {"a": "b"},
                },
            },
            {
                "generation_config": {
                    "temperature": 0.7,
                    "max_output_tokens": 4000,
                    "thinking_level": "low",
                    "stop_sequences": ["END"],
                    "seed": 7,
                    "thinking_summaries": "none",
                },
                "labels": {"a": "b"},
            },
        ),
    ],
)
async def test_each_provider_is_sent_the_options_in_its_own_way(
    simulator: RunningSimulator, case: str, model: str, options: dict[str, Any], sent: dict[str, Any]
) -> None:
    await asked(case, simulator, model, **options)
    (body,) = simulator.bodies
    assert {name: body.get(name) for name in sent} == sent


@pytest.mark.parametrize(
    ("case", "model", "fields"),
    [
        ("responses", "gpt-4o", ["input", "instructions", "max_output_tokens", "model", "temperature"]),
        ("chat", "gpt-4o", ["max_completion_tokens", "messages", "model", "temperature"]),
        ("anthropic", "claude-opus-4-5", ["max_tokens", "messages", "model", "stream", "system", "temperature"]),
        ("gemini", "gemini-2.5-flash", ["contents", "generationConfig", "systemInstruction"]),
        ("own server", "llama", ["max_tokens", "messages", "model", "temperature"]),
    ],
)
async def test_without_options_nothing_more_is_sent(
    simulator: RunningSimulator, case: str, model: str, fields: list[str]
) -> None:
    await asked(case, simulator, model)
    (body,) = simulator.bodies
    assert sorted(body) == fields
    assert sorted(body.get("generationConfig", {})) == (
        ["maxOutputTokens", "temperature"] if case == "gemini" else []
    )


#: A model that thinks, by case, with how it is told to.
THINKING: dict[str, tuple[str, dict[str, Any]]] = {
    "responses": ("gpt-5.1", {"reasoning_effort": "high"}),
    "chat": ("gpt-5.1", {"reasoning_effort": "high"}),
    "anthropic": ("claude-sonnet-4-5", {"thinking_budget": 2048}),
    "gemini": (
        "gemini-2.5-flash",
        {
            "thinking_budget": 2048,
            "provider_options": {"generationConfig": {"thinkingConfig": {"includeThoughts": True}}},
        },
    ),
    "interactions": ("gemini-3.5-flash", {"reasoning_effort": "high"}),
    "own server": ("llama", {"reasoning_effort": "high"}),
}


@pytest.mark.parametrize("case", THINKING)
async def test_thinking_is_counted_and_paid_as_output_and_not_part_of_the_answer(
    simulator: RunningSimulator, case: str
) -> None:
    model, options = THINKING[case]
    name = CASES[case][0]
    answer = await asked(case, simulator, model, 16_000, **options)
    assert answer.text.startswith(f"[SIMULATOR] {name}/{model}") and "First I think" not in answer.text
    assert answer.output_tokens > tokens_of(answer.text) + 400
    (call,) = simulator.ledger()
    assert answer.output_tokens == call["output_tokens"]
    assert case == "own server" or answer.billed["output_tokens"] == answer.output_tokens
    paid = replace(answer, headers={})
    prices = settings_for(case, simulator).model_copy(update={"prices": PriceSettings(input=0, output=1_000_000)})
    assert cost_of(prices, model, paid).usd == answer.output_tokens
    known = cost_of(settings_for(case, simulator), model, paid).usd
    silent = replace(
        paid, output_tokens=0, billed={name: 0 if "output" in name else n for name, n in paid.billed.items()}
    )
    free = cost_of(settings_for(case, simulator), model, silent).usd
    assert case == "own server" or (known is not None and free is not None and known > free)


@pytest.mark.parametrize(
    ("case", "model"),
    [
        ("chat", "gpt-4o"),
        ("anthropic", "claude-sonnet-4-5"),
        ("gemini", "gemini-2.5-flash"),
        ("interactions", "gemini-3.5-flash"),
        ("own server", "llama"),
    ],
)
async def test_an_answer_ends_before_a_stop(simulator: RunningSimulator, case: str, model: str) -> None:
    whole = await asked(case, simulator, model)
    cut = await asked(case, simulator, model, stop=["never said", "simulator, not"])
    assert cut.text == whole.text[: whole.text.index("simulator, not")]
    assert cut.finish_reason == "stop" and cut.output_tokens < whole.output_tokens


@pytest.mark.parametrize("case", ["chat", "gemini", "interactions", "own server"])
async def test_with_a_seed_equal_requests_are_answered_alike(simulator: RunningSimulator, case: str) -> None:
    model = {"chat": "gpt-4o", "gemini": "gemini-2.5-flash", "interactions": "gemini-3.5-flash"}.get(case, "llama")
    texts = [(await asked(case, simulator, model, key=f"fleet-{call}", seed=7)).text for call in range(2)]
    other = (await asked(case, simulator, model, key="fleet-0", seed=8)).text
    unseeded = [(await asked(case, simulator, model, key=f"fleet-{call}")).text for call in range(2)]
    assert texts[0] == texts[1] != other and unseeded[0] != unseeded[1]


async def test_a_model_that_thinks_up_to_its_token_limit_has_no_answer(simulator: RunningSimulator) -> None:
    answer = await asked("responses", simulator, "gpt-5.1", 300, reasoning_effort="high")
    assert (answer.text, answer.finish_reason, answer.output_tokens) == ("", "length", 300)


@pytest.mark.parametrize(
    ("case", "model", "options", "said"),
    [
        (
            "responses",
            "gpt-4o",
            {"reasoning_effort": "low"},
            "Unsupported parameter: 'reasoning.effort' is not sup",
        ),
        (
            "responses",
            "gpt-5.1",
            {"reasoning_effort": "minimal"},
            "Supported values are: 'none', 'low', 'medium', an",
        ),
        ("responses", "gpt-5.1", {"reasoning_effort": "lots"}, "Invalid value: 'lots'"),
        ("responses", "gpt-5.1", {"provider_options": {"top_k": 3}}, "Unknown parameter: 'top_k'"),
        (
            "chat",
            "gpt-4o",
            {"reasoning_effort": "low"},
            "Unrecognized request argument supplied: reasoning_effort",
        ),
        ("chat", "gpt-4o", {"provider_options": {"top_k": 3}}, "Unrecognized request argument supplied: top_k"),
        ("chat", "gpt-5.1", {"stop": ["a"]}, "Unsupported parameter: 'stop' is not supported with this model"),
        ("chat", "gpt-4o", {"stop": list("abcde")}, "Expected an array with maximum length 4"),
        (
            "anthropic",
            "claude-opus-5",
            {"thinking_budget": 2048},
            '"thinking.type.enabled" is not supported for th',
        ),
        ("anthropic", "claude-sonnet-4-5", {"reasoning_effort": "low"}, "does not support the effort parameter"),
        ("anthropic", "claude-opus-4-5", {"reasoning_effort": "max"}, "does not support effort level 'max'"),
        ("anthropic", "claude-sonnet-4-5", {"thinking_budget": 1000}, "should be greater than or equal to 1024"),
        (
            "anthropic",
            "claude-sonnet-4-5",
            {"thinking_budget": 4000},
            "must be greater than `thinking.budget_tokens`",
        ),
        ("anthropic", "claude-3-5-haiku", {"thinking_budget": 2048}, "does not support thinking"),
        ("anthropic", "claude-opus-5", {"stop": [" "]}, "each stop sequence must contain non-whitespace"),
        ("anthropic", "claude-opus-5", {"provider_options": {"seed": 3}}, "seed: Extra inputs are not permitted"),
        (
            "gemini",
            "gemini-2.5-flash",
            {"reasoning_effort": "low"},
            "Thinking level is not supported for this model",
        ),
        (
            "gemini",
            "gemini-2.5-pro",
            {"thinking_budget": 0},
            "Budget 0 is invalid. This model only works in thinking",
        ),
        ("gemini", "gemini-2.5-pro", {"thinking_budget": 9}, "Please choose a value between 128 and 32768"),
        (
            "gemini",
            "gemini-3-pro",
            {"thinking_budget": 9, "reasoning_effort": "low"},
            "only one of thinking budget",
        ),
        ("gemini", "gemini-2.0-flash", {"thinking_budget": 9}, "Thinking is not supported by this model"),
        ("gemini", "gemini-3-pro", {"stop": list("abcdef")}, "must be 5 or fewer"),
        ("gemini", "gemini-3-pro", {"provider_options": {"user": "a"}}, 'Unknown name "user": Cannot find field'),
        (
            "interactions",
            "gemini-3-pro",
            {"reasoning_effort": "minimal"},
            "Thinking level MINIMAL is not supported",
        ),
    ],
)
async def test_what_would_be_refused_here_first_is_refused_by_the_simulator_as_by_the_provider(
    simulator: RunningSimulator, case: str, model: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ProviderError) as refused:
        await asked(case, simulator, model, **options)
    assert refused.value.failure_kind is FailureKind.BAD_REQUEST
    assert said in refused.value.detail
    provider = settings_for(case, simulator)
    known_here = refused_options(provider, model, ModelOptions(**options), 4000)
    assert known_here or "provider_options" in options or "lots" in said
