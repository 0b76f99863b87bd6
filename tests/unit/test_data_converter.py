"""Values as Temporal payloads: as the SDK reads and writes them, with letters as UTF-8."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from temporalio.converter import DataConverter

from fleet.budgets.messages import BudgetStatus, HeldModel, KnownMachine, LimitStatus, Reading, Report, Trouble
from fleet.contracts import (
    ActivityLimits,
    Assignment,
    Assistant,
    AssistantCall,
    AssistantMoved,
    AssistantState,
    Limited,
    LimitSettings,
    ModelChoice,
    NamedText,
    PipelinePlan,
    RetryOf,
)
from fleet.process.data_converter import data_converter

OURS, SDKS = data_converter().payload_converter, DataConverter.default.payload_converter
SCHEMA = {"type": "object", "properties": {"názvy": {"type": "array", "items": {"type": "number"}}}}
PLAIN = Assistant("draft", "Návrh", 1, "openai", "gpt-4o", "Piš.")
FULL = Assistant(
    "check",
    "Kontrola",
    2,
    "gemini",
    "gemini-3.5-flash",
    "Zkontroluj.",
    0.0,
    0.5,
    100,
    ["draft", "csv"],
    [ModelChoice("openai", "gpt-4o")],
    "fail",
    "{{draft}}",
    True,
    SCHEMA,
)
VALUES = [
    PLAIN,
    FULL,
    AssistantCall("draft", "Návrh", "openai", "gpt-4o", "eshop"),
    AssistantCall(
        "check",
        "Kontrola",
        "gemini",
        "gemini-3.5-flash",
        "eshop",
        5.0,
        {"calls": 2, "sent": True, "at": ""},
        Assignment(FULL, "Kávovary", None, "a;b", [NamedText("draft", "Návrh", "Žluť")], "run", True),
        ["output_schema"],
    ),
    PipelinePlan("eshop", [PLAIN, FULL], {"openai": "llm-openai"}, ActivityLimits(600, 180, 1, 2)),
    AssistantMoved("draft", AssistantState.RUNNING, 1),
    RetryOf("pipeline", "run"),
    LimitSettings(rpm=10),
    Report(
        "openai_00@host+id",
        calls=2,
        spent={"tokens": 10.5},
        readings=[Reading(Limited.TOKENS, 1, 2.5, 0.1)],
        troubles=[Trouble("rate", 1, wait_seconds=2)],
        sent=[[0.5, 2]],
    ),
    BudgetStatus(
        "llm-openai",
        10.0,
        "closed",
        "",
        True,
        1,
        1,
        0,
        [LimitStatus("requests", 10, 5, 0, 1, True)],
        held_models=[HeldModel("gpt-4o", 1.5, "quota")],
        machines=[KnownMachine("host+id", 1.0)],
    ),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_is_written_and_read_as_the_sdk_does_it(value: object) -> None:
    (ours,), (sdks,) = OURS.to_payloads([value]), SDKS.to_payloads([value])
    assert json.loads(ours.data) == json.loads(sdks.data)
    assert ours.metadata == sdks.metadata
    for payload in (ours, sdks):
        assert OURS.from_payload(payload, type(value)) == SDKS.from_payload(payload, type(value)) == value


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"workflow_id": "w", "run_id": "r", "of_a_later_release": [1]}, RetryOf),
        ({"rpm": 1, "tpm": None, "input_tpm": 2.5}, LimitSettings),
        ({"what": "tokens", "refill": 1, "remaining": 2, "age_seconds": 3, "refused": True}, Reading),
        (None, AssistantCall | None),
        ([{"workflow_id": "w", "run_id": "r"}], list[RetryOf]),
        ({"a": {"provider": "openai", "model": "gpt-4o"}}, dict[str, ModelChoice]),
    ],
)
def test_what_another_release_wrote_is_read_as_the_sdk_reads_it(given: Any, kind: Any) -> None:
    (payload,) = SDKS.to_payloads([given])
    ours, sdks = OURS.from_payload(payload, kind), SDKS.from_payload(payload, kind)
    assert ours == sdks
    if isinstance(ours, LimitSettings):
        assert [type(value) for value in vars(ours).values()] == [type(value) for value in vars(sdks).values()]


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"workflow_id": "w"}, RetryOf),
        ({"workflow_id": 1, "run_id": "r"}, RetryOf),
        ({"rpm": "ten"}, LimitSettings),
        ("text", RetryOf),
        ({"what": "cups", "refill": 1, "remaining": 2, "age_seconds": 3}, Reading),
        ([{"workflow_id": "w"}], list[RetryOf]),
    ],
)
def test_a_value_of_another_shape_is_refused_as_the_sdk_refuses_it(given: Any, kind: Any) -> None:
    (payload,) = SDKS.to_payloads([given])
    assert _error_of(lambda: OURS.from_payload(payload, kind)) is _error_of(
        lambda: SDKS.from_payload(payload, kind)
    )


def _error_of(read: Callable[[], object]) -> type[BaseException] | None:
    try:
        read()
    except Exception as error:
        return type(error)
    return None


def test_letters_are_not_escaped_and_half_a_surrogate_pair_becomes_a_question_mark() -> None:
    (payload,) = OURS.to_payloads([NamedText("draft", "Návrh", "žluť \ud800")])
    assert payload.data == '{"key":"draft","name":"Návrh","text":"žluť ?"}'.encode()
