"""The options of a model: what is an option, which model takes which, and what its call is then sent."""

from dataclasses import replace
from typing import Any

import pytest
from temporalio.converter import DataConverter

from fleet.config import load_settings
from fleet.contracts import Assignment, Assistant, ModelChoice, Trial
from fleet.errors import AssistantDamaged
from fleet.execution.load_assistants import with_options_that_are_taken
from fleet.execution.requests import identity_of, request_for
from fleet.model_options import ModelOptions
from fleet.pipeline.fingerprint import fingerprint_of
from fleet.pipeline.trials import trial_plan
from fleet.process.data_converter import data_converter
from fleet.providers.base import LlmRequest
from fleet.providers.options import refused_options, without_thinking
from tests.unit.test_assistants import parse, row
from tests.unit.test_trials import PLAN

GIVEN: dict[str, Any] = {
    "reasoning_effort": "high",
    "thinking_budget": 2048,
    "stop": ["END", "###"],
    "seed": 7,
    "provider_options": {"service_tier": "flex", "metadata": {"a": [1, None]}},
}


def test_an_assistant_has_the_options_of_its_row() -> None:
    (found,) = parse(row(**GIVEN))
    assert found.options == ModelOptions(**GIVEN)
    assert found.needs == ["options"]
    (plain,) = parse(row(**dict.fromkeys(GIVEN)))
    assert plain.options is None and plain.needs == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reasoning_effort", 3),
        ("reasoning_effort", "very high"),
        ("thinking_budget", 1024.0),
        ("thinking_budget", True),
        ("thinking_budget", -2),
        ("stop", "END"),
        ("stop", []),
        ("stop", [""]),
        ("stop", ["a", 3]),
        ("stop", ["\ud800"]),
        ("seed", -1),
        ("seed", "7"),
        ("seed", 2**31),
        ("provider_options", []),
        ("provider_options", {}),
        ("provider_options", {"a": float("nan")}),
        ("provider_options", {"a": "\ud800"}),
        ("provider_options", {"a": "x" * 30_000}),
        ("provider_options", {"a": {1: 2}}),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(AssistantDamaged, match=rf"assistant brief: {name} is .*Remedy: set {name} to "):
        parse(row(**{name: value}))


async def test_options_cross_temporal_and_missing_ones_have_no_value() -> None:
    (found,) = parse(row(fallback=[{"model_provider": "openai", "model": "gpt-5"}], **GIVEN))
    found = replace(found, fallback=[ModelChoice("openai", "gpt-5", ("seed",))])
    for converter in (data_converter(), DataConverter.default):
        assert await converter.decode(await converter.encode([found]), [Assistant]) == [found]
    old = await DataConverter.default.encode([{"provider": "openai", "model": "gpt-5"}])
    assert await data_converter().decode(old, [ModelChoice]) == [ModelChoice("openai", "gpt-5")]


def test_calls_without_options_keep_the_identity_that_earlier_releases_gave_them() -> None:
    request = LlmRequest("gpt-4o", "Write.", "Topic", 0.7, None, 100, "key")
    assert "options" not in identity_of(request)
    seeded = replace(request, options=ModelOptions(seed=7))
    assert '"options": {"seed": 7}' in identity_of(seeded)


@pytest.mark.parametrize("name", GIVEN)
def test_options_belong_to_a_projects_fingerprint(name: str) -> None:
    plain = fingerprint_of([row()])
    assert fingerprint_of([row(**{name: None})]) == plain != fingerprint_of([row(**{name: GIVEN[name]})])


PROVIDERS: dict[str, Any] = {
    "groq": {"base_url": "https://api.groq.com/openai/v1"},
    "behind": {"kind": "gemini", "background": True, "base_url": "http://127.0.0.1:1"},
    "legacy": {"kind": "gemini", "sdk": "google-generativeai", "base_url": "http://127.0.0.1:1"},
    "slow": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "api": "responses", "background": True},
}
CHAT = load_settings(api_base_url="http://localhost:1", providers={"openai": {"api": "chat"}})
SETTINGS = load_settings(api_base_url="http://localhost:1", providers=PROVIDERS)


def refused(model: str, max_tokens: int | None = None, **options: Any) -> list[str]:
    provider, _, name = model.partition("/")
    settings = CHAT.provider("openai") if provider == "chat" else SETTINGS.provider(provider)
    found = refused_options(settings, name, ModelOptions(**options), max_tokens)
    return [f"{each.says}. Remedy: {each.remedy}" for each in found]


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("openai/gpt-5", {"reasoning_effort": "minimal"}),
        ("openai/gpt-5.6-sol", {"reasoning_effort": "max"}),
        ("openai/gpt-6-sol", {"reasoning_effort": "none", "provider_options": {"text": {"verbosity": "low"}}}),
        ("openai/gpt-5.1", {"provider_options": {"reasoning": {"summary": "auto"}, "service_tier": "flex"}}),
        ("chat/gpt-4o", {"stop": ["a", "b", "c", "d"], "seed": 0}),
        ("groq/llama-3.3-70b", {"reasoning_effort": "default", "stop": ["\n", *"abcd"], "seed": 1}),
        ("groq/qwen", {"provider_options": {"chat_template_kwargs": {"enable_thinking": False}, "top_k": 3}}),
        ("anthropic/claude-sonnet-4-6", {"thinking_budget": 1024, "reasoning_effort": "max"}),
        ("anthropic/claude-sonnet-4-5", {"thinking_budget": 0, "stop": ["END"]}),
        (
            "anthropic/claude-opus-5",
            {"reasoning_effort": "xhigh", "provider_options": {"metadata": {"user_id": "a"}}},
        ),
        ("anthropic/claude-unheard-of", {"reasoning_effort": "xhigh"}),
        ("gemini/gemini-2.5-flash", {"thinking_budget": 0, "seed": 1, "stop": [" "]}),
        ("gemini/models/gemini-2.5-pro", {"thinking_budget": -1}),
        ("gemini/gemini-3.5-flash", {"reasoning_effort": "minimal"}),
        ("gemini/gemini-3-pro", {"provider_options": {"generationConfig": {"topK": 40}, "safetySettings": []}}),
        ("behind/gemini-3.5-flash", {"reasoning_effort": "low", "seed": 3}),
        ("legacy/gemini-2.5-flash", {"stop": ["END"]}),
    ],
)
def test_an_option_that_a_model_takes_is_not_refused(model: str, options: dict[str, Any]) -> None:
    assert refused(model, 2000, **options) == []


@pytest.mark.parametrize(
    ("model", "options", "told"),
    [
        (
            "openai/gpt-4o",
            {"reasoning_effort": "low"},
            "openai/gpt-4o does not take reasoning_effort. Remedy: remove",
        ),
        (
            "openai/gpt-5",
            {"reasoning_effort": "none"},
            "reasoning_effort 'none'. Remedy: write one of minimal, low",
        ),
        ("openai/gpt-5", {"thinking_budget": 2048}, "thinking_budget. Remedy: set reasoning_effort instead"),
        ("groq/qwen", {"thinking_budget": 9}, "or put what the server has for it into provider_options"),
        ("openai/gpt-4o", {"stop": ["a"]}, "does not take stop. Remedy: set FLEET_PROVIDERS__OPENAI__API=chat"),
        ("openai/gpt-4o", {"seed": 1}, "does not take seed. Remedy: set FLEET_PROVIDERS__OPENAI__API=chat"),
        ("chat/gpt-5", {"stop": ["a"]}, "openai/gpt-5 does not take stop. Remedy: remove it, or choose another"),
        (
            "chat/gpt-4o",
            {"stop": list("abcde")},
            "stop has 5 texts, openai/gpt-4o takes at most 4. Remedy: remove some",
        ),
        (
            "anthropic/claude-opus-5",
            {"seed": 1},
            "does not take seed. Remedy: remove it: the Messages API has none",
        ),
        ("anthropic/claude-opus-5", {"thinking_budget": 2048}, "Remedy: set reasoning_effort instead"),
        ("anthropic/claude-sonnet-4-5", {"reasoning_effort": "low"}, "Remedy: set thinking_budget instead"),
        (
            "anthropic/claude-opus-4-5",
            {"reasoning_effort": "max"},
            "'max'. Remedy: write one of low, medium, high",
        ),
        (
            "anthropic/claude-3-5-haiku-latest",
            {"thinking_budget": 2048},
            "Remedy: remove it, or choose a model that",
        ),
        (
            "anthropic/claude-sonnet-4-6",
            {"thinking_budget": 1000},
            "a thinking_budget of 1000. Remedy: write 1024 to",
        ),
        (
            "anthropic/claude-sonnet-4-6",
            {"thinking_budget": 2000},
            "thinking_budget 2000 is not less than max_tokens,",
        ),
        ("anthropic/claude-opus-5", {"stop": ["a", "\n"]}, "stop has a text of spaces or line ends alone"),
        ("gemini/gemini-2.5-pro", {"thinking_budget": 0}, "budget of 0. Remedy: write 128 to 32768 or -1"),
        ("gemini/gemini-2.5-flash", {"reasoning_effort": "low"}, "Remedy: set thinking_budget instead"),
        ("gemini/gemini-2.0-flash", {"thinking_budget": 100}, "Remedy: remove it, or choose a model that thinks"),
        ("gemini/gemini-3-pro", {"reasoning_effort": "minimal"}, "Remedy: write one of low, high"),
        (
            "gemini/gemini-3-flash",
            {"reasoning_effort": "low", "thinking_budget": 9},
            "takes either reasoning_effort or",
        ),
        ("gemini/gemini-2.5-flash", {"stop": list("abcdef")}, "takes at most 5"),
        ("behind/gemini-2.5-flash", {"thinking_budget": 9}, "or unset FLEET_PROVIDERS__BEHIND__BACKGROUND: inter"),
        ("legacy/gemini-2.5-flash", {"seed": 9}, "Remedy: unset FLEET_PROVIDERS__LEGACY__SDK"),
    ],
)
def test_an_option_that_a_model_does_not_take_is_refused(model: str, options: dict[str, Any], told: str) -> None:
    (said,) = refused(model, 2000, **options)
    assert told in said


@pytest.mark.parametrize(
    ("model", "options", "told"),
    [
        (
            "groq/a",
            {"model": "b"},
            "may not contain model, which the fleet sets. Remedy: remove it there, and set model",
        ),
        ("groq/a", {"messages": []}, "may not contain messages, which the fleet sets. Remedy: remove it there"),
        ("groq/a", {"stream": True}, "may not contain stream"),
        ("groq/a", {"extra_headers": {}}, "may not contain extra_headers"),
        ("groq/a", {"X-Api-Key": "a"}, "may not contain X-Api-Key"),
        ("groq/a", {"apiKey": "a"}, "may not contain apiKey"),
        (
            "groq/a",
            {"max_tokens": 1},
            "may not contain max_tokens, which the fleet sets. Remedy: remove it there, and",
        ),
        ("groq/a", {"stop": ["a"]}, "and set stop"),
        ("openai/gpt-5", {"reasoning": {"effort": "low"}}, "may not contain reasoning.effort"),
        (
            "openai/gpt-5",
            {"reasoning": "low"},
            "has reasoning, which is not a mapping. Remedy: write it as a mapping",
        ),
        ("openai/gpt-5", {"previous_response_id": "r"}, "may not contain previous_response_id"),
        ("openai/gpt-5", {"background": True}, "may not contain background"),
        ("slow/m", {"store": False}, "may not contain store"),
        ("anthropic/claude-opus-5", {"thinking": {"type": "disabled"}}, "may not contain thinking"),
        ("anthropic/claude-opus-5", {"output_config": {"effort": "low"}}, "may not contain output_config.effort"),
        ("gemini/gemini-3-pro", {"generation_config": {"top_p": 1}}, "may not contain generation_config.top_p"),
        ("gemini/gemini-3-pro", {"generationConfig": {"thinkingConfig": {"thinkingBudget": 1}}}, "thinkingBudget"),
        ("behind/gemini-3-pro", {"previous_interaction_id": "a"}, "may not contain previous_interaction_id"),
    ],
)
def test_provider_options_do_not_override_what_the_fleet_sets(
    model: str, options: dict[str, Any], told: str
) -> None:
    (said,) = refused(model, provider_options=options)
    assert said.startswith("provider_options ") and told in said


def fallback(*models: str) -> list[dict[str, str]]:
    return [dict(zip(("model_provider", "model"), model.split("/", 1), strict=True)) for model in models]


def test_a_project_whose_model_does_not_take_an_option_is_not_loaded() -> None:
    rows = parse(row("plan", 1), row("brief", 2, model="gpt-5", thinking_budget=2048))
    with pytest.raises(
        AssistantDamaged, match=r"assistant brief: openai/gpt-5 does not take thinking_budget\. Rem"
    ):
        with_options_that_are_taken(SETTINGS, rows)


def test_a_fallback_gets_the_options_that_it_takes() -> None:
    options = {"reasoning_effort": "high", "provider_options": {"service_tier": "flex"}}
    models = fallback("anthropic/claude-opus-5", "openai/gpt-4o", "openai/gpt-5.1")
    (found,) = with_options_that_are_taken(SETTINGS, parse(row(model="gpt-5", fallback=models, **options)))
    assert [choice.without for choice in found.fallback] == [("provider_options",), ("reasoning_effort",), ()]
    assignment = Assignment(found, "topic", None, None, [])
    asked = [ModelChoice("openai", "gpt-5"), *(ModelChoice(each.provider, each.model) for each in found.fallback)]
    sent = [request_for(assignment, choice).model_options.given for choice in asked]
    assert sent[0] == sent[3] == options
    assert sent[1] == {"reasoning_effort": "high"} and sent[2] == {"provider_options": {"service_tier": "flex"}}


def test_a_trial_of_another_model_has_the_options_that_it_takes() -> None:
    key = PLAN.assistants[0].function_key
    assistants = [replace(each, options=ModelOptions(seed=1, stop=["a"])) for each in PLAN.assistants]
    trial = Trial(key, {}, ModelChoice("anthropic", "claude-opus-5", ("seed",)))
    tried = trial_plan(replace(PLAN, assistants=assistants), trial).assistants[-1]
    assert tried.options == ModelOptions(stop=["a"])


@pytest.mark.parametrize(
    ("model", "effort"),
    [
        ("openai/gpt-6-luna", "none"),
        ("openai/gpt-5-nano", "minimal"),
        ("openai/o3", None),  # takes "low" at the least
        ("openai/gpt-4o", None),
        ("anthropic/claude-haiku-4-5", None),
        ("anthropic/claude-opus-5", None),
    ],
)
def test_a_call_that_needs_a_few_words_thinks_as_little_as_its_model_can(model: str, effort: str | None) -> None:
    provider, _, name = model.partition("/")
    options = without_thinking(SETTINGS.provider(provider), name)
    assert (options.reasoning_effort if options else None) == effort
