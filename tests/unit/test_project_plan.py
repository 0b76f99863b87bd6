"""What `fleet project check` says of a project before anything is sent."""

from typing import Any

import pytest

from fleet.cli.project_plan import ProjectPlan, plan_of
from fleet.config import load_settings

OWN_SERVER = {"base_url": "http://127.0.0.1:11434/v1", "needs_key": False}


def plan(model: str, *fallback: str, **providers: dict[str, object]) -> ProjectPlan:
    settings = load_settings(api_base_url="http://localhost:1", providers=providers)
    return plan_of(settings, "my", "", [row(model, fallback)])


def row(model: str, fallback: tuple[str, ...] = ()) -> dict[str, Any]:
    provider, name = model.split("/", 1)
    others = [dict(zip(("model_provider", "model"), each.split("/", 1), strict=True)) for each in fallback]
    return {
        "id": "my-1",
        "functionKey": "a",
        "name": "A",
        "order": 1,
        "system_prompt": "Write.",
        "model_provider": provider,
        "model": name,
        "fallback": others,
    }


@pytest.mark.parametrize(
    ("model", "near"),
    [
        ("openai/gpt4o", "gpt-4o"),
        ("anthropic/claude-sonet-4-6", "claude-sonnet-4-6"),
        ("gemini/gemini-2.5-flsh", "gemini-2.5-flash"),
    ],
)
def test_a_model_that_is_not_known_is_warned_of_with_the_nearest_one(model: str, near: str) -> None:
    for found in (plan(model), plan("openai/gpt-4o-mini", model)):
        (warning,) = found.warnings
        assert warning.startswith(f"a: the price data has no model {model} (did you mean {near}?). Remedy: ")
        assert not found.never_completes


@pytest.mark.parametrize(
    "model",
    ["openai/gpt-4o", "openai/gpt-4o-2024-08-06", "gemini/models/gemini-2.5-flash", "openai/entirely-unlike-any"],
)
def test_a_known_model_and_one_like_no_known_one_are_not_warned_of(model: str) -> None:
    assert plan(model).warnings == []


def test_the_models_of_a_server_of_ones_own_are_not_compared_with_a_vendors() -> None:
    assert plan("openai/gpt4o", openai=OWN_SERVER).warnings == []
    assert plan("own/gpt4o", own=OWN_SERVER).warnings == []
    official = {"base_url": "https://api.openai.com/v1"}
    assert len(plan("openai/gpt4o", openai=official).warnings) == 1
