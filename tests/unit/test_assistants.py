"""A project's assistants as the backend has them: what is taken, what is refused, who waits for whom."""

from typing import Any

import pytest

from fleet.config import load_settings
from fleet.contracts import Assistant
from fleet.errors import AssistantDamaged, NoAssistants
from fleet.pipeline.assistants import dependencies, parse_assistants, reads_csv


def row(key: str = "brief", order: int = 1, **changes: Any) -> dict[str, Any]:
    """An assistant as the backend shows it."""
    return {
        "id": key,
        "functionKey": key,
        "name": key.title(),
        "order": order,
        "active": True,
        "model_provider": "openai",
        "model": "gpt-4o",
        "system_prompt": "Write.",
        "temperature": 0.5,
        "top_p": None,
        "max_tokens": 800,
    } | changes


def parse(*rows: Any) -> list[Assistant]:
    settings = load_settings(api_base_url="http://localhost:8000")
    return parse_assistants(
        list(rows),
        "p",
        default_temperature=0.7,
        default_max_tokens=None,
        provider_name=lambda name: settings.provider(name).name,
    )


def test_they_come_sorted_with_defaults_filled_in_and_inactive_ones_left_out() -> None:
    found = parse(
        row("b", 2, temperature=None, max_tokens=None), row("off", 3, active=False, name=None), row("a", 1)
    )
    assert [assistant.function_key for assistant in found] == ["a", "b"]
    assert (found[1].temperature, found[1].max_tokens) == (0.7, None)


@pytest.mark.parametrize(
    ("spelling", "name"), [("claude", "anthropic"), ("google", "gemini"), ("OpenAI", "openai")]
)
def test_every_spelling_of_a_provider_is_known(spelling: str, name: str) -> None:
    assert parse(row(model_provider=spelling))[0].provider == name


def test_each_waits_for_the_one_before_unless_it_names_its_inputs() -> None:
    chain = parse(row("a", 1), row("b", 2), row("c", 3, input_keys=["a", "topic", "csv"]))
    assert dependencies(chain) == {"a": [], "b": ["a"], "c": ["a"]}
    assert reads_csv(chain) and not reads_csv(chain[:2])


REFUSED = [
    ([], NoAssistants, "has no assistants"),
    ([row(active=False)], NoAssistants, "are inactive"),
    (["text"], AssistantDamaged, "number 1 is no JSON object"),
    ([row(name=None)], AssistantDamaged, "Asistent nemá název - databáze poškozená"),
    ([row(name=" ")], AssistantDamaged, "UPDATE Assistant SET name='...' WHERE name IS NULL"),
    ([row(functionKey=None)], AssistantDamaged, "number 1: functionKey is missing"),
    ([row(functionKey="csv")], AssistantDamaged, "name of a pipeline input"),
    ([row(model_provider=None)], AssistantDamaged, "model_provider is missing"),
    ([row(model_provider="acme")], AssistantDamaged, "unknown provider 'acme'"),
    ([row(model=None)], AssistantDamaged, "model is missing"),
    ([row(model="")], AssistantDamaged, "model is empty"),
    ([row(system_prompt=None)], AssistantDamaged, "system_prompt is missing"),
    ([row(system_prompt="a\ud800")], AssistantDamaged, "not valid Unicode"),
    ([row(order=None)], AssistantDamaged, "order is missing"),
    ([row(order="1")], AssistantDamaged, "order is '1'"),
    ([row(order=True)], AssistantDamaged, "order is True"),
    ([row(active="yes")], AssistantDamaged, "active is 'yes'"),
    ([row(temperature="hot")], AssistantDamaged, "temperature is 'hot'"),
    ([row(temperature=3)], AssistantDamaged, "temperature is 3"),
    ([row(top_p=1.5)], AssistantDamaged, "top_p is 1.5"),
    ([row(max_tokens=0)], AssistantDamaged, "max_tokens is 0"),
    ([row("a", 1), row("a", 2)], AssistantDamaged, "is used by two active assistants"),
    ([row("a", 1), row("b", 1)], AssistantDamaged, "both have order 1"),
    ([row("a", 1, input_keys="topic")], AssistantDamaged, "input_keys is not a list"),
    ([row("a", 1, input_keys=["topic", "topic"])], AssistantDamaged, "names something twice"),
    ([row("a", 1, input_keys=["b"])], AssistantDamaged, "'b' does not exist"),
    ([row("a", 1, input_keys=["b"]), row("b", 2, active=False)], AssistantDamaged, "'b' is inactive"),
    ([row("a", 1, input_keys=["b"]), row("b", 2, input_keys=["a"])], AssistantDamaged, "form a cycle: a, b"),
    ([row("a", 1, input_keys=["a"])], AssistantDamaged, "form a cycle: a"),
    ([row(fallback="gpt")], AssistantDamaged, "fallback is not a list"),
    ([row(fallback=[{"model": "gpt-4o"}])], AssistantDamaged, "lacks model_provider"),
    ([row(fallback=[{"model_provider": "acme", "model": "x"}])], AssistantDamaged, "unknown provider 'acme'"),
]


@pytest.mark.parametrize(("rows", "error", "said"), REFUSED, ids=[said for _, _, said in REFUSED])
def test_what_is_damaged_is_refused_by_name_with_a_remedy(rows: list[Any], error: type, said: str) -> None:
    with pytest.raises(error) as caught:
        parse(*rows)
    assert said in str(caught.value) and "Remedy:" in str(caught.value)


@pytest.mark.parametrize(
    "field", [{"user_template": "\ud800"}, {"fallback": [{"model_provider": "openai", "model": "\ud800"}]}]
)
def test_half_of_a_surrogate_pair_is_refused_wherever_it_would_be_sent(field: dict[str, Any]) -> None:
    with pytest.raises(AssistantDamaged, match="not valid Unicode text"):
        parse(row() | field)
