"""A structured answer that does not match is asked for once more: counted, journalled, never for nothing."""

import asyncio
import json
from dataclasses import asdict, replace

import pytest

from fleet.config import load_settings
from fleet.errors import HeldBack, OutputBroken, ProviderError
from fleet.execution.assistant_results import About
from fleet.execution.attempts import Attempts
from fleet.execution.call_runner import Call
from fleet.execution.failed_calls import Used, failed_calls
from fleet.execution.journal_records import Asked, Left
from fleet.execution.recorded_answer import Recorded
from fleet.execution.recovery import _may_deliver
from fleet.execution.second_ask import answer_that_matches
from fleet.failures import FailureKind
from fleet.providers.base import LlmAnswer, LlmRequest, ResumeHandle
from tests.unit.call_world import (
    ANSWER,
    ASKED,
    NAME,
    QUEUE,
    REQUEST,
    TASK,
    Attempting,
    Opened,
    Pipeline,
    Process,
    opened,
)

__all__ = ["opened"]

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
WANTED = replace(REQUEST, output_schema=SCHEMA)
OPENAI = load_settings(
    api_base_url="http://localhost:1", providers={"openai": {"prices": {"input": 1.0, "output": 2.0}}}
).provider("openai")
GOOD, BAD, WORSE = '{"n": 1}', '{"n": "one"}', "no JSON at all"


@pytest.fixture(autouse=True)
def _outside_of_an_activity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.execution.call_runner._is_to_end", lambda: False)
    monkeypatch.setattr("fleet.execution.call_runner._is_unwanted", lambda: False)


class Model:
    """Answers with these texts in turn, or fails; ``asked`` are the user messages that it got."""

    def __init__(self, *answers: str | Exception) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def complete(
        self, request: LlmRequest, *, timeout_seconds: float, resume_handle: ResumeHandle
    ) -> LlmAnswer:
        self.asked.append(request.user_message)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return replace(ANSWER, text=answer)


async def ask(
    opened: Opened,
    model: Model,
    attempts: Attempts | None = None,
    *,
    send_ambiguous: bool = True,
    late_seconds: float = 60.0,
) -> Recorded:
    """One attempt at an assistant with a schema, in a process of its own."""
    process = Process(opened(), model)
    attempts = attempts or Attempting()
    attempts.make_current()

    def to_make(request: LlmRequest) -> Call:
        name = replace(NAME, key=request.user_message)
        about = About(request.model, "key", output_schema=SCHEMA).to_json()
        asked = Asked(ASKED.run_id, about)
        return Call(name, QUEUE, request, 1.0, send_ambiguous, asked, 1000.0, late=False, project_id="p")

    def run(call: Call) -> "asyncio.Future[Recorded]":
        return asyncio.ensure_future(process.runner.run(call, attempts, Pipeline()))

    def note_in_vain(recorded: Recorded, number: int) -> None:
        used = Used.by(OPENAI, WANTED.model, recorded, number).to_details()
        attempts.answered_in_vain(recorded.maybe_paid + 1, used)

    return await answer_that_matches("Brief", to_make, WANTED, run, note_in_vain, late_seconds)


async def test_an_answer_that_matches_is_asked_for_once(opened: Opened) -> None:
    model, attempts = Model(GOOD), Attempting()
    recorded = await ask(opened, model, attempts)
    assert (recorded.answer.text, recorded.maybe_paid, attempts.maybe_paid) == (GOOD, 0, 0)


async def test_a_broken_one_is_asked_for_again_with_what_is_wrong_and_counts_as_paid(opened: Opened) -> None:
    model, attempts = Model(BAD, GOOD), Attempting()
    recorded = await ask(opened, model, attempts)
    first, second = model.asked
    assert first == WANTED.user_message and second.startswith(first)
    assert BAD in second and "$.n: 'one' is not of type 'integer'" in second
    assert (recorded.answer.text, recorded.maybe_paid, attempts.calls) == (GOOD, 1, 2)


async def test_a_second_broken_one_fails_with_its_path_and_nothing_is_asked_again(opened: Opened) -> None:
    with pytest.raises(OutputBroken, match=r"Brief: .* at \$\.n: .*; it was asked for twice\. Remedy: ") as failed:
        await ask(opened, Model(WORSE, BAD))
    assert not failed.value.retryable and failed.value.last_asked
    with pytest.raises(OutputBroken):  # as after a kill before Temporal heard of the failure
        await ask(opened, Model())


async def test_two_broken_answers_are_paid_and_counted_also_when_they_are_read_again(opened: Opened) -> None:
    attempts = Attempting()
    with pytest.raises(OutputBroken) as failed:
        await ask(opened, Model(WORSE, BAD), attempts)
    found = failed_calls(failed.value, attempts)
    assert (found.calls, found.possibly_paid_twice) == (2, 1)
    assert (found.input_tokens, found.output_tokens, found.cost_usd) == (20, 40, pytest.approx(100e-6))
    carried = Attempting(**asdict(attempts))
    with pytest.raises(OutputBroken) as again:
        await ask(opened, Model(), carried)
    assert failed_calls(again.value, carried) == found


async def test_a_broken_answer_is_paid_though_the_second_call_fails(opened: Opened) -> None:
    attempts = Attempting()
    with pytest.raises(ProviderError) as failed:
        await ask(opened, Model(BAD, ProviderError(FailureKind.BAD_REQUEST, "openai", "…", status=400)), attempts)
    found = failed_calls(failed.value, attempts)
    assert (found.calls, found.possibly_paid_twice, found.output_tokens, found.price_note) == (2, 1, 20, "")
    assert found.cost_usd == pytest.approx(50e-6)


async def test_of_a_second_call_that_may_have_been_paid_nobody_knows_the_cost(opened: Opened) -> None:
    attempts = Attempting()
    with pytest.raises(ProviderError) as failed:
        await ask(opened, Model(BAD, ProviderError(FailureKind.TIMED_OUT, "openai", "…")), attempts)
    found = failed_calls(failed.value, attempts)
    assert (found.calls, found.possibly_paid_twice) == (2, 1)
    assert found.cost_usd == pytest.approx(50e-6) and found.price_note == "without 1 call that may have been paid"


async def test_by_policy_a_broken_answer_is_not_paid_for_again(opened: Opened) -> None:
    model = Model(BAD)
    with pytest.raises(OutputBroken, match="on_ambiguous"):
        await ask(opened, model, send_ambiguous=False)
    assert len(model.asked) == 1


async def test_after_a_kill_between_the_two_only_the_second_is_sent(opened: Opened) -> None:
    outage = ProviderError(FailureKind.OUTAGE, "openai", "…", status=503)
    with pytest.raises(ProviderError):
        await ask(opened, Model(BAD, outage))
    model = Model(GOOD)
    assert (await ask(opened, model)).maybe_paid == 1
    assert len(model.asked) == 1 and BAD in model.asked[0]
    assert (await ask(opened, Model())).answer.text == GOOD  # both are in the journal by now


async def test_another_machine_counts_the_answer_that_it_cannot_see(opened: Opened) -> None:
    attempts = Attempting()
    outage = ProviderError(FailureKind.OUTAGE, "openai", "…", status=503)
    with pytest.raises(ProviderError):
        await ask(opened, Model(BAD, outage), attempts)
    carried = Attempts.resume([asdict(attempts)], number=2)
    assert carried.maybe_paid == 1 and carried.may_have_sent and not carried.response_id


async def test_late_in_an_attempt_the_second_call_gets_an_attempt_of_its_own(opened: Opened) -> None:
    model = Model(BAD, GOOD)
    with pytest.raises(HeldBack, match="in an attempt of its own"):
        await ask(opened, model, late_seconds=-1.0)
    assert (await ask(opened, model)).answer.text == GOOD and len(model.asked) == 2


def left(opened: Opened) -> Left:
    (found,) = opened().left([TASK.token])
    return found


async def test_a_broken_answer_of_a_dead_process_is_not_delivered(opened: Opened) -> None:
    opened().hold(TASK)
    outage = ProviderError(FailureKind.OUTAGE, "openai", "…", status=503)
    with pytest.raises(ProviderError):
        await ask(opened, Model(BAD, outage))
    assert left(opened).answer and not _may_deliver(left(opened)) and left(opened).paid_in_all == 1
    await ask(opened, Model(GOOD))
    assert _may_deliver(left(opened)), "the later answer is the one"


def test_an_earlier_release_cannot_read_what_belongs_to_an_answer_with_a_schema() -> None:
    about = About("gpt-4o", "key", 2, SCHEMA)
    assert About.from_json(about.to_json()) == about
    assert "model" not in json.loads(about.to_json())
