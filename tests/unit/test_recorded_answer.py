"""Answers in the journal, which two releases share during a roll."""

import json
from dataclasses import replace

from fleet.execution.recorded_answer import Recorded
from fleet.providers.base import LlmAnswer

SAYS_SIMULATED = {"x-simulator": "true"}
ANSWER = LlmAnswer(
    "text",
    "gpt-4o",
    "stop",
    10,
    20,
    billed={"input_tokens": 10, "cache_write_tokens": 9},
    headers=SAYS_SIMULATED,
    tier="flex",
)
HEADERS = SAYS_SIMULATED | {"set-cookie": "secret"}
RECORDED = Recorded(replace(ANSWER, headers=HEADERS), "2026-01-01T00:00:00.000+00:00", 1.5, 2)


def test_a_record_keeps_no_header_but_that_of_the_simulator() -> None:
    assert "secret" not in RECORDED.to_json()
    assert Recorded.from_json(RECORDED.to_json(), 0).answer.simulated


def test_an_answer_that_does_not_say_that_it_is_simulated_is_none_in_the_record() -> None:
    paid = replace(RECORDED, answer=replace(ANSWER, headers={"set-cookie": "secret"}, tier=""))
    found = Recorded.from_json(paid.to_json(), 0).answer
    assert not found.simulated and found.tier == ""


def test_a_record_is_read_by_0_1_0() -> None:
    """Which shares the journal during a roll, and passes on every field that it finds."""
    values = json.loads(RECORDED.to_json())
    assert values["answer"].keys() == {
        "text",
        "model",
        "finish_reason",
        "input_tokens",
        "output_tokens",
        "cached_input_tokens",
        "headers",
    }
    assert values.keys() == {"answer", "started", "seconds", "attempts", "maybe_paid"}


def test_a_record_is_read_as_it_was_written() -> None:
    assert Recorded.from_json(RECORDED.to_json(), 0) == replace(RECORDED, answer=ANSWER)


def test_a_record_of_0_1_0_is_read() -> None:
    values = json.loads(RECORDED.to_json())
    values["answer"]["headers"] = {"set-cookie": "secret", "x-request-id": "1"}
    found = Recorded.from_json(json.dumps(values), 0).answer
    assert (found.headers, found.billed, found.tier, found.text) == ({}, {}, "", ANSWER.text)
    values["answer"]["headers"] |= SAYS_SIMULATED
    assert Recorded.from_json(json.dumps(values), 0).answer.simulated


def test_a_record_of_a_later_release_is_read() -> None:
    values = json.loads(RECORDED.to_json())
    later = values | {"new": 1, "answer": values["answer"] | {"new": 1}}
    assert Recorded.from_json(json.dumps(later), 1) == replace(RECORDED, answer=ANSWER, maybe_paid=1)
    without = {"answer": {name: values["answer"][name] for name in ("text", "model", "finish_reason")}}
    assert Recorded.from_json(json.dumps(without), 0).answer.text == ANSWER.text
