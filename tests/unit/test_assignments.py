"""What an assistant works with: passed along with its call, or fetched by its worker."""

from dataclasses import replace

import pytest

from fleet.contracts import Assistant, AssistantResult
from fleet.pipeline.inputs import PipelineInputs
from fleet.pipeline.stages import PASSED_CHARACTERS, SMALL_CHARACTERS, Stages

ANSWER = AssistantResult("brief", "", "openai", "gpt-4o", "stop", 0, 0, 0, None, None, 1, 0.0, "", "")


def stages(readers: int = 1) -> Stages:
    """A brief, and so many assistants that read it."""
    brief = Assistant("brief", "Brief", 1, "openai", "gpt-4o", "Write a brief.")
    draft = Assistant("draft", "Draft", 2, "openai", "gpt-4o", "", input_keys=["brief"])
    more = [replace(draft, function_key=f"draft_{number}", order=2 + number) for number in range(readers)]
    return Stages([brief, *more], PipelineInputs("Kávovar", "p", "", "2025-01-31"))


@pytest.mark.parametrize(("characters", "passed"), [(SMALL_CHARACTERS, True), (SMALL_CHARACTERS + 1, False)])
def test_a_small_assignment_is_passed_along_and_a_large_one_is_fetched(characters: int, passed: bool) -> None:
    pipeline = stages()
    pipeline.finish(replace(ANSWER, output="x" * characters), 0.0)
    found = pipeline.small_assignment("draft_0")
    assert found == (pipeline.assignment("draft_0") if passed else None)


def test_a_history_stores_no_more_passed_along_texts_than_its_bound() -> None:
    readers = PASSED_CHARACTERS // SMALL_CHARACTERS + 1
    pipeline = stages(readers)
    pipeline.finish(replace(ANSWER, output="x" * SMALL_CHARACTERS), 0.0)
    passed = [pipeline.small_assignment(f"draft_{number}") is not None for number in range(readers)]
    assert passed == [True] * (readers - 1) + [False]
