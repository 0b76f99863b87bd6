"""What Temporal carries is measured as it is sent, and nothing larger is handed to it."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.config import load_settings
from fleet.contracts import (
    OUTPUT_ESCAPED_MAX_BYTES,
    OUTPUT_MAX_BYTES,
    PAYLOAD_MAX_BYTES,
    AssistantResult,
    PipelineResult,
    StageRecord,
)
from fleet.errors import TooLarge
from fleet.execution.activities import LoadActivities, _at_once
from fleet.execution.assistant_results import sendable
from fleet.pipeline.results import fit_payload_limit
from fleet.process.metrics import Metrics
from fleet.process.payload_size import cut_to_fit, payload_bytes, surely_fit, text_bytes

TEMPORALS_LIMIT = 2 * 1024 * 1024
LETTERS = {
    "plain": "a",
    "Czech": "ř",
    "lines": "\n",
    "quotes": '"',
    "control": "\x01",
    "emoji": "🦊",
    "half": "\ud800",
}
EVERY_LETTER = pytest.mark.parametrize("letter", LETTERS.values(), ids=LETTERS)


@given(st.text())
def test_a_text_is_measured_as_it_is_sent(text: str) -> None:
    assert text_bytes(text) == payload_bytes(text) - 2
    assert not surely_fit([text]) or payload_bytes([text]) <= PAYLOAD_MAX_BYTES


@given(st.text(), st.integers(0, 40))
def test_a_text_is_cut_to_fit(text: str, most: int) -> None:
    cut = cut_to_fit(text, most)
    assert text.startswith(cut) and text_bytes(cut) <= most
    assert cut == text or text_bytes(text) > most


@EVERY_LETTER
def test_every_output_can_be_sent(letter: str) -> None:
    sent = sendable(letter * OUTPUT_MAX_BYTES)
    assert text_bytes(sent) <= OUTPUT_ESCAPED_MAX_BYTES
    assert len(sent.encode()) > OUTPUT_MAX_BYTES / 8, "no more than needed is cut"


def stage(number: int, output: str) -> StageRecord:
    metadata: dict[str, Any] = {"provider": "openai", "model": "gpt-4o", "cost_usd": 0.1, "note": "x" * 400}
    return StageRecord(f"Stage {number}", "done", f"key_{number}", number, None, 1.0, output, metadata)


def result(outputs: list[str]) -> PipelineResult:
    stages = [stage(number, output) for number, output in enumerate(outputs)]
    return PipelineResult("topic", "project", "w", "r", outputs[-1], stages, len(outputs), len(outputs), True)


@EVERY_LETTER
@pytest.mark.parametrize(("count", "length"), [(3, 300_000), (7, 300_000), (1000, 500), (2, 1_000_000)])
def test_every_result_can_be_sent_and_says_what_is_left_out(letter: str, count: int, length: int) -> None:
    whole = result([sendable(letter * length)] * count)
    sent = fit_payload_limit(whole)
    assert payload_bytes(sent) < TEMPORALS_LIMIT
    for before, after in zip(whole.stages, sent.stages, strict=True):
        left_out = after.metadata.get("output_left_out_bytes")
        assert after.output == before.output if left_out is None else after.output == ""
    if payload_bytes(whole) <= PAYLOAD_MAX_BYTES:
        assert sent == whole


def test_a_result_keeps_as_many_outputs_as_fit() -> None:
    sent = fit_payload_limit(result(["x" * 1_500_000, "y" * 900_000, "z" * 300_000]))
    assert [bool(stage.output) for stage in sent.stages] == [False, True, True]


def answered(number: int, letter: str) -> AssistantResult:
    text = sendable(letter * 300_000)
    return AssistantResult(f"key_{number}", text, "openai", "m", "stop", 1, 0, 1, 0.1, None, 1, 0.1, "", "key")


@EVERY_LETTER
def test_the_outputs_of_a_failed_run_come_in_parts_that_can_be_sent(letter: str) -> None:
    results = [answered(number, letter) for number in range(7)]
    taken: list[AssistantResult] = []
    while len(taken) < len(results):
        part = _at_once(results[len(taken) :])
        assert part and payload_bytes(part) < TEMPORALS_LIMIT
        taken += part
    assert taken == results
    assert _at_once([]) == []


async def test_a_plan_that_is_too_large_fails_with_its_size_and_the_remedy() -> None:
    row = {
        "id": "1",
        "name": "Draft",
        "order": 1,
        "model_provider": "openai",
        "model": "gpt-4o",
        "system_prompt": "Piš česky. " * 200,
        "active": True,
    }
    rows = [row | {"id": str(number), "functionKey": f"key_{number}", "order": number} for number in range(1000)]

    async def give(*arguments: object, **options: object) -> Any:
        return rows

    backend = SimpleNamespace(assistants=give, see_key=give)
    loading = LoadActivities(load_settings(api_base_url="https://x"), backend, None, Metrics())  # type: ignore[arg-type]
    load: Any = LoadActivities.load
    with pytest.raises(
        TooLarge, match=r"1000 assistants of project 'big'.* bytes, where .*Remedy: shorten"
    ) as caught:
        await load.__wrapped__(loading, "big")
    assert not caught.value.retryable
    rows[:] = rows[:10]
    assert len((await load.__wrapped__(loading, "big")).assistants) == 10


def test_a_result_is_left_as_it_is_where_it_fits() -> None:
    small = result(["text"] * 8)
    assert fit_payload_limit(small) is small and fit_payload_limit(replace(small, topic="other")).topic == "other"
