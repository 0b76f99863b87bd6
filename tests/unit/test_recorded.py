"""Answers in the journal, which two releases share during a roll."""

import json
from dataclasses import replace

from fleet.providers.base import LlmAnswer
from fleet.recorded import Recorded

ANSWER = LlmAnswer("text", "gpt-4o", "stop", 10, 20)
RECORDED = Recorded(replace(ANSWER, headers={"set-cookie": "secret"}), "2026-01-01T00:00:00.000+00:00", 1.5, 2)


def test_a_record_keeps_no_headers() -> None:
    assert "secret" not in RECORDED.to_json()


def test_a_record_is_read_by_0_1_0() -> None:
    """Which shares the journal during a roll, and passes on every field that it finds."""
    values = json.loads(RECORDED.to_json())
    read = Recorded(**(values | {"answer": LlmAnswer(**values["answer"])}))
    assert read == replace(RECORDED, answer=ANSWER)


def test_a_record_of_a_later_release_is_read() -> None:
    values = json.loads(RECORDED.to_json())
    later = values | {"new": 1, "answer": values["answer"] | {"new": 1}}
    assert Recorded.from_json(json.dumps(later), 1) == replace(RECORDED, answer=ANSWER, maybe_paid=1)
    without = {"answer": {name: values["answer"][name] for name in ("text", "model", "finish_reason")}}
    assert Recorded.from_json(json.dumps(without), 0).answer.text == ANSWER.text
