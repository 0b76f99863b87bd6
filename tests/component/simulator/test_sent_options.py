"""The options of a model: what the unmodified SDKs send for them, as the simulator receives it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fleet.config import load_settings
from fleet.devstack.simulator.testing import RunningSimulator
from fleet.model_options import ModelOptions
from fleet.provider_settings import ProviderSettings
from fleet.providers.base import LlmAnswer, LlmRequest, Provider, ResumeHandle
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
    case: str, simulator: RunningSimulator, model: str, max_tokens: int | None = 4000, **options: Any
) -> LlmAnswer:
    """The answer to a request with these options."""
    given = ModelOptions(**options) if options else None
    request = LlmRequest(model, "Be brief.", "Topic: coffee", 0.7, None, max_tokens, "fleet-1", options=given)

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
