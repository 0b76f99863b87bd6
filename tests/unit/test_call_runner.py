"""Calls under the journal: made once, whoever waits for them and however often they are asked for."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest
from loguru import logger

from fleet.errors import (
    AmbiguousCall,
    AssistantDamaged,
    BackendUnavailable,
    HeldBack,
    JournalUnavailable,
    OpenElsewhere,
    ProviderError,
    TaskTaken,
)
from fleet.execution.journal_records import CallName
from fleet.failures import Billed, FailureKind, traits_of
from fleet.model_options import ModelOptions
from fleet.providers.base import LlmAnswer, LlmRequest, ResumeHandle
from tests.unit.call_world import (
    ANSWER,
    NAME,
    REQUEST,
    TASK,
    Attempting,
    Opened,
    Pipeline,
    Process,
    Provider,
    opened,
)

__all__ = ["opened"]

REFUSED = ModelOptions(thinking_budget=2000)


@pytest.fixture(autouse=True)
def _outside_of_an_activity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.execution.call_runner._is_to_end", lambda: False)
    monkeypatch.setattr("fleet.execution.call_runner._is_unwanted", lambda: False)


def failure(failure_kind: FailureKind) -> ProviderError:
    return ProviderError(failure_kind, "openai", "…")


async def test_an_answer_is_taken_from_the_journal_the_second_time(opened: Opened) -> None:
    provider = Provider(at_once=True)
    first = await Process(opened(), provider).make()
    assert await Process(opened(), provider).make() == first
    assert (first.answer, first.maybe_paid, provider.asked) == (ANSWER, 0, 1)


async def test_an_answer_that_cannot_be_read_was_paid_in_vain(opened: Opened) -> None:
    provider, name = Provider(at_once=True), CallName("key of gpt-4o", NAME.workflow_id, NAME.function_key)
    await Process(opened(), provider).make()
    damaged = "UPDATE calls SET answer = '{\"answer\": 1}'"
    journal = opened()
    with journal._file.writing() as connection:
        connection.execute(damaged)
    with pytest.raises(AmbiguousCall, match="Remedy: "):
        await Process(opened(), provider).make(send_ambiguous=False)
    assert provider.asked == 1 and journal.answer(name) is None
    again = await Process(opened(), provider).make()
    assert (again.answer, again.maybe_paid, provider.asked) == (ANSWER, 1, 2)


async def test_what_was_answered_before_takes_nothing_of_the_limit(opened: Opened) -> None:
    provider = Provider(at_once=True)
    await Process(opened(), provider).make()
    second = Process(opened(), provider)
    await second.make()
    assert not second.gate._sent


async def test_what_was_answered_before_waits_for_no_limit(opened: Opened) -> None:
    provider = Provider(at_once=True)
    await Process(opened(), provider).make()
    second = Process(opened(), provider)
    second.gate.refused(86_400.0)
    second.admission.held_models.hold("gpt-4o", 86_400.0)
    assert (await second.make()).answer == ANSWER
    assert provider.asked == 1


async def test_a_first_attempt_looks_for_an_answer_only_when_its_call_begins(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = Provider(at_once=True)
    await Process(opened(), provider).make()
    journal = opened()
    looked: list[object] = []
    monkeypatch.setattr(journal, "answer", lambda *asked: looked.append(asked))
    repeated = Process(journal, provider)
    assert (await repeated.make(first=True)).answer == ANSWER
    assert (looked, provider.asked) == ([], 1)
    assert not repeated.gate._sent, "what was answered before takes nothing of the limit"


async def test_two_attempts_at_once_share_one_call(opened: Opened) -> None:
    provider = Provider()
    process = Process(opened(), provider)
    first = await process.begin(provider)
    others = [asyncio.create_task(process.make()) for _ in range(4)]
    await asyncio.sleep(0)
    provider.let.set()
    found = await asyncio.gather(first, *others)
    assert [outcome.answer for outcome in found] == [ANSWER] * 5 and provider.asked == 1


async def test_an_attempt_that_is_given_up_leaves_its_call_to_the_next(opened: Opened) -> None:
    provider = Provider()
    process = Process(opened(), provider)
    attempt = await process.begin(provider)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    following = asyncio.create_task(process.make())
    await asyncio.sleep(0)
    provider.let.set()
    assert (await following).maybe_paid == 0
    assert provider.asked == 1


async def test_a_worker_that_leaves_takes_its_call_along(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.execution.call_runner._is_to_end", lambda: True)
    provider = Provider()
    process = Process(opened(), provider)
    attempt = await process.begin(provider)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    assert opened().counts().by_state["cut_off"] == 1


async def test_a_call_that_is_on_its_way_is_awaited_though_it_is_unwanted(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.execution.call_runner._is_unwanted", lambda: True)
    provider = Provider()
    process = Process(opened(), provider)
    attempt = await process.begin(provider)
    attempt.cancel()
    await asyncio.sleep(0)
    provider.let.set()
    assert (await attempt).answer == ANSWER


async def test_a_call_that_is_unwanted_before_it_is_sent_is_not_sent(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.execution.call_runner._is_unwanted", lambda: True)
    provider = Provider()
    process = Process(opened(), provider)
    process.gate.refused(0.5)
    attempt = asyncio.create_task(process.make())
    await asyncio.sleep(0.01)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    assert provider.asked == 0


async def test_after_a_resume_no_earlier_refusal_holds_a_call(opened: Opened) -> None:
    refusal = ProviderError(FailureKind.RATE, "openai", "…", status=429, wait_seconds=86_400.0)
    provider = Provider(refusal, at_once=True)
    process = Process(opened(), provider)
    process.reporter.resumes = 3  # some other day
    with pytest.raises(ProviderError):
        await process.make()
    provider.error = None
    with pytest.raises(HeldBack):
        await process.make()
    process.reporter.resumes = 4
    assert (await process.make()).answer == ANSWER


async def test_a_model_without_quota_holds_its_own_calls_until_the_resume(opened: Opened) -> None:
    spent = ProviderError(FailureKind.MODEL_QUOTA, "gemini", "…", status=429, wait_seconds=7200.0)
    provider = Provider(spent, at_once=True)
    process = Process(opened(), provider)
    with pytest.raises(ProviderError):
        await process.make()
    provider.error = None
    with pytest.raises(HeldBack, match="gpt-4o has no quota left for 7200 s"):
        await process.make()
    assert process.reporter.held_calls == 1
    assert (await process.make(model="gpt-5")).answer == ANSWER
    process.reporter.resumes = 1
    assert (await process.make()).answer == ANSWER


async def test_a_model_with_a_queue_of_its_own_has_that_parked(opened: Opened) -> None:
    spent = ProviderError(FailureKind.MODEL_QUOTA, "gemini", "…", status=429, wait_seconds=7200.0)
    process = Process(opened(), Provider(spent, at_once=True))
    process.admission.of_one_model = True
    with pytest.raises(ProviderError) as caught:
        await process.make()
    assert caught.value.failure_kind is FailureKind.QUOTA_UNTIL_RESET and caught.value.traits.parks
    assert not process.admission.held_models


async def test_a_request_larger_than_its_limit_is_the_requests_own_failure_and_holds_no_other(
    opened: Opened,
) -> None:
    headers = {"x-ratelimit-limit-tokens": "80", "x-ratelimit-remaining-tokens": "0"}
    provider = Provider(ProviderError(FailureKind.RATE, "openai", "…", status=429, headers=headers), at_once=True)
    process, attempts = Process(opened(), provider), Attempting()
    for number in (1, 2):
        with pytest.raises(ProviderError, match="about 100 tokens, the limit is 80 a minute") as caught:
            await process.make(attempts=attempts)
        assert (caught.value.failure_kind, attempts.too_large) == (FailureKind.TOO_LARGE, number)
        assert not process.gate.stopped, "the limit has room for others"


async def test_a_resume_lets_a_call_go_that_already_waits_at_the_gate(opened: Opened) -> None:
    process = Process(opened(), Provider(at_once=True))
    process.gate.refused(30.0)
    waiting = asyncio.create_task(process.make(hold_seconds=60.0))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    process.reporter.resumes = 1
    async with asyncio.timeout(5):
        assert (await waiting).answer == ANSWER


async def test_a_call_that_is_cut_off_is_counted_or_refused_by_policy(opened: Opened) -> None:
    provider = Provider()
    process = Process(opened(), provider)
    attempt = await process.begin(provider)
    assert await process.runner.cut_off(NAME)
    with pytest.raises(asyncio.CancelledError):
        await attempt
    assert not await process.runner.cut_off(NAME)
    with pytest.raises(AmbiguousCall, match="may have been paid"):
        await process.make(send_ambiguous=False)
    provider.let.set()
    assert (await process.make()).maybe_paid == 1


async def test_only_a_call_that_lasts_is_reported_as_running(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, lasting = Pipeline(), Pipeline()
    await Process(opened(), Provider(at_once=True)).make(pipeline=short)
    assert short.heard == []
    monkeypatch.setattr("fleet.execution.call_runner._LASTING_SECONDS", 0.0)
    provider = Provider(failure(FailureKind.OUTAGE))
    made = asyncio.create_task(Process(opened(), provider).make(model="gpt-4o-mini", pipeline=lasting))
    async with asyncio.timeout(10):
        await lasting.told.wait()
    assert lasting.heard == [("sending", 1, False)]
    provider.let.set()
    with pytest.raises(ProviderError):
        await made
    assert [what for what, _, _ in lasting.heard] == ["sending", "failed"]


@pytest.mark.parametrize("failure_kind", FailureKind)
async def test_a_failed_call_is_counted_or_not_sent_again_where_the_table_says_that_it_may_be_billed(
    opened: Opened, failure_kind: FailureKind
) -> None:
    provider = Provider(failure(failure_kind), at_once=True)
    attempts, pipeline = Attempting(), Pipeline()
    billed = traits_of(failure_kind).billed is not Billed.NO
    with pytest.raises(ProviderError):
        await Process(opened(), provider).make(attempts=attempts, pipeline=pipeline)
    assert pipeline.heard == [("failed", 1, billed)]
    assert attempts.may_have_sent == billed
    provider.error = None
    with pytest.raises(AmbiguousCall) if billed else nullcontext():
        await Process(opened(), provider).make(send_ambiguous=False)
    assert provider.asked == (1 if billed else 2)
    assert (await Process(opened(), provider).make()).maybe_paid == int(billed)
    assert provider.asked == 2


@pytest.mark.parametrize(
    "failure_kind", [failure_kind for failure_kind in FailureKind if traits_of(failure_kind).retryable]
)
async def test_by_policy_the_failure_that_may_be_billed_is_itself_the_last(
    opened: Opened, failure_kind: FailureKind
) -> None:
    provider, attempts = Provider(failure(failure_kind), at_once=True), Attempting()
    billed = traits_of(failure_kind).billed is not Billed.NO
    with pytest.raises(AmbiguousCall if billed else ProviderError, match=failure_kind.value):
        await Process(opened(), provider).make(send_ambiguous=False, attempts=attempts)
    assert attempts.made == int(billed), "what is not final is counted by its verdict"


async def test_a_provider_known_to_be_in_trouble_excuses_its_failures(opened: Opened) -> None:
    provider = Provider(failure(FailureKind.OUTAGE), at_once=True)
    process = Process(opened(), provider)
    for in_trouble in (False, True):
        process.reporter.in_trouble = in_trouble
        with pytest.raises(ProviderError) as caught:
            await process.make()
        assert caught.value.excused == in_trouble


async def test_a_call_that_could_not_be_sent_is_no_attempt_for_a_day(opened: Opened) -> None:
    process = Process(opened(), Provider(failure(FailureKind.LOST_BEFORE_SENDING), at_once=True))
    for excused_at, excused in ((0.0, True), (time.time() - 86_000, True), (time.time() - 86_500, False)):
        attempts = Attempting(excused_at=excused_at)
        with pytest.raises(ProviderError) as caught:
            await process.make(attempts=attempts)
        assert caught.value.excused == excused
        assert attempts.calls == 0 and not attempts.may_have_sent, "nothing was sent"


class Background(Provider):
    """Begins a response of its own, whose first poll fails; ``known``: and which it still has."""

    def __init__(self, *, known: bool) -> None:
        super().__init__(at_once=True)
        self.known = known
        self.resume_handles: list[str | None] = []

    async def complete(
        self, request: LlmRequest, *, timeout_seconds: float, resume_handle: ResumeHandle
    ) -> LlmAnswer:
        self.resume_handles.append(resume_handle.response_id)
        if len(self.resume_handles) == 2:
            return ANSWER
        await resume_handle.begun("r-1")
        if not self.known:
            await resume_handle.gone()
        error = failure(FailureKind.KEY_REJECTED if self.known else FailureKind.LOST_AFTER_SENDING)
        error.goes_on = self.known
        raise error


@pytest.mark.parametrize("known", [True, False], ids=["goes on", "is gone"])
async def test_a_failed_poll_leaves_the_call_to_the_next_attempt_while_the_provider_knows_it(
    opened: Opened, known: bool
) -> None:
    """Its id is picked up, and nothing is paid twice; without it, it may have been."""
    provider = Background(known=known)
    with pytest.raises(ProviderError):
        await Process(opened(), provider).make()
    assert (await Process(opened(), provider).make()).maybe_paid == (0 if known else 1)
    assert provider.resume_handles == [None, "r-1" if known else None]


async def test_a_call_for_which_there_is_no_key_was_never_sent(opened: Opened) -> None:
    provider, attempts = Provider(BackendUnavailable("away"), at_once=True), Attempting(at="here")
    process = Process(opened(), provider)
    with pytest.raises(BackendUnavailable):
        await process.make(attempts=attempts)
    attempts.at = "another host"
    assert not (attempts.may_be_open_elsewhere or attempts.may_have_sent)
    provider.error = None
    assert (await process.make(send_ambiguous=False)).maybe_paid == 0


async def test_an_unforeseen_error_may_have_been_sent(opened: Opened) -> None:
    provider = Provider(ZeroDivisionError("division by zero"), at_once=True)
    with pytest.raises(ZeroDivisionError):
        await Process(opened(), provider).make()
    provider.error = None
    assert (await Process(opened(), provider).make()).maybe_paid == 1


async def test_without_a_journal_nothing_is_sent(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "openai.db").write_bytes(b"no database" * 100)
    provider = Provider()
    with pytest.raises(JournalUnavailable):
        await Process(opened(), provider).make()
    assert provider.asked == 0


async def test_an_answer_that_the_journal_cannot_take_is_given_all_the_same(opened: Opened) -> None:
    journal = opened()

    def refuse(name: CallName, answer: str) -> None:
        raise JournalUnavailable("the disk is gone")

    journal.answered = refuse  # type: ignore[method-assign]
    assert (await Process(journal, Provider(at_once=True)).make()).answer == ANSWER


async def test_an_answer_is_in_the_journal_before_the_budget_is_told_of_it(opened: Opened) -> None:
    process, found = Process(opened(), Provider(at_once=True)), []

    def fail(*arguments: object) -> None:
        found.append(opened().counts().by_state["answered"])
        raise ValueError("that cannot be")

    process.reporter.answered = fail  # type: ignore[method-assign]
    assert (await process.make()).answer == ANSWER
    assert found == [1]


async def test_closing_cuts_off_what_does_not_end(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.execution.call_runner._CLOSE_SECONDS", 0.05)
    provider = Provider()
    process = Process(opened(), provider)
    attempt = await process.begin(provider)
    await process.runner.close()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    with pytest.raises(AmbiguousCall):
        await Process(opened(), provider).make(send_ambiguous=False)


async def test_calls_are_made_while_all_other_threads_are_busy(opened: Opened) -> None:
    """A blocking client may hold each of them for the length of a call."""
    busy, over = ThreadPoolExecutor(1), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(busy)
    busy.submit(lambda: asyncio.run_coroutine_threadsafe(over.wait(), loop).result())
    try:
        process = Process(opened(), Provider(at_once=True))
        async with asyncio.timeout(10), process.journal.holding(TASK):
            assert (await process.make()).answer == ANSWER
            await process.journal.close()
    finally:
        over.set()


async def test_a_call_that_another_machine_may_have_sent_waits_for_its_answer_and_is_then_counted(
    opened: Opened,
) -> None:
    provider = Provider(at_once=True)
    process = Process(opened(), provider)
    attempts = Attempting(at="here", open_at="there", open_on="vm1+0a")
    with pytest.raises(OpenElsewhere, match=r"vm1\+0a may have sent this call.* 60 s at most") as waits:
        await process.make(attempts=attempts)
    assert (waits.value.wait_seconds, provider.asked, process.reporter.held_calls) == (10.0, 0, 0)
    pipeline = Pipeline()
    answer = await process.make(attempts=attempts, started_at=1060.0, pipeline=pipeline)
    assert (answer.maybe_paid, attempts.elsewhere_since) == (1, 0.0)
    assert pipeline.heard[0] == ("asked", 0, False), "it may have been delivered meanwhile"


async def test_an_attempt_lost_before_its_first_heartbeat_was_elsewhere_unless_the_journal_has_its_call(
    opened: Opened,
) -> None:
    process = Process(opened(), Provider(at_once=True))
    with pytest.raises(OpenElsewhere, match="another machine may have sent this call"):
        await process.make(attempts=Attempting(untold=True), attempt=2)
    opened().begin(NAME, deadline=time.time() + 60)
    assert (await process.make(attempts=Attempting(untold=True), attempt=2)).maybe_paid == 1
    opened().begin(CallName("key of another", NAME.workflow_id, NAME.function_key), deadline=time.time() + 60)
    with pytest.raises(OpenElsewhere):  # the second attempt may have been elsewhere
        await process.make(model="another", attempts=Attempting(untold=True), attempt=3)


async def test_an_attempt_lost_before_its_first_heartbeat_sent_nothing_where_no_other_machine_can_have_it(
    opened: Opened,
) -> None:
    provider = Provider(at_once=True)
    process = Process(opened(), provider)
    process.reporter.alone_on = "vm1+0a"
    attempts = Attempting(untold=True, machine="vm1+0a")
    answer = await process.make(attempts=attempts, attempt=2, send_ambiguous=False)
    assert (answer.maybe_paid, attempts.made, provider.asked) == (0, 0, 1)
    opened().begin(CallName("key of begun", NAME.workflow_id, NAME.function_key), deadline=time.time() + 60)
    begun = Attempting(untold=True, machine="vm1+0a")
    assert (await process.make(model="begun", attempts=begun, attempt=2)).maybe_paid == 1, "the journal has it"
    elsewhere = Attempting(untold=True, machine="vm2+0b")
    with pytest.raises(OpenElsewhere):
        await process.make(model="another", attempts=elsewhere, attempt=2)


async def test_a_call_whose_task_another_worker_has_by_now_is_not_sent(opened: Opened) -> None:
    provider, pipeline = Provider(at_once=True), Pipeline()
    process = Process(opened(), provider)
    await process.make(pipeline=pipeline)
    assert ("asked", 0, False) not in pipeline.heard, "it costs a request"
    pipeline.taken = True
    with pytest.raises(TaskTaken):
        await process.make(pipeline=pipeline, model="late", late=True)
    process.journal.doubt()
    with pytest.raises(TaskTaken):
        await process.make(pipeline=pipeline, model="in doubt")
    assert provider.asked == 1


@pytest.mark.parametrize("log_content", [True, False])
async def test_inputs_and_outputs_stay_out_of_the_log_at_debug_too_if_told_so(
    opened: Opened, log_content: bool
) -> None:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level="DEBUG")
    try:
        await Process(opened(), Provider(at_once=True), log_content=log_content).make()
    finally:
        logger.remove(sink)
    text = "".join(lines)
    assert "LLM REQUEST" in text
    shown = [part in text for part in (REQUEST.system_prompt, REQUEST.user_message, ANSWER.text)]
    assert shown == [log_content] * 3


async def test_an_input_that_exceeds_the_context_window_is_not_sent(opened: Opened) -> None:
    provider, attempts, pipeline = Provider(at_once=True), Attempting(), Pipeline()
    process = Process(opened(), provider, providers={"openai": {"context_window": 1}})
    with pytest.raises(ProviderError) as caught:
        await process.make(attempts=attempts, pipeline=pipeline)
    assert caught.value.failure_kind is FailureKind.CONTEXT_EXCEEDED
    for said in (
        "assistant draft",
        "about 4 tokens (2 at least)",
        "gpt-4o has 1;",
        "not sent",
        "fewer rows or columns",
    ):
        assert said in str(caught.value)
    assert (provider.asked, attempts.calls, attempts.may_have_sent, attempts.maybe_paid) == (0, 0, False, 0)
    assert not caught.value.counts and not caught.value.may_be_billed and not pipeline.heard


async def test_an_answer_that_is_there_is_taken_although_the_window_is_smaller_now(opened: Opened) -> None:
    provider = Provider(at_once=True)
    first = await Process(opened(), provider).make()
    smaller = Process(opened(), provider, providers={"openai": {"context_window": 1}})
    assert await smaller.make() == first


@pytest.mark.parametrize("first", [True, False])
async def test_a_call_with_an_option_that_its_model_does_not_take_is_not_sent(opened: Opened, first: bool) -> None:
    provider, attempts, pipeline = Provider(at_once=True), Attempting(), Pipeline()
    with pytest.raises(AssistantDamaged, match=r"assistant draft: openai/gpt-4o does not take thinking_budget"):
        await Process(opened(), provider).make(attempts=attempts, pipeline=pipeline, first=first, options=REFUSED)
    assert (provider.asked, attempts.calls, attempts.may_have_sent, pipeline.heard) == (0, 0, False, [])


async def test_an_answer_that_is_there_is_taken_although_its_options_are_refused_now(opened: Opened) -> None:
    provider = Provider(at_once=True)
    first = await Process(opened(), provider).make()
    assert await Process(opened(), provider).make(options=REFUSED) == first
    assert provider.asked == 1


async def test_a_call_on_its_way_is_awaited_although_its_options_are_refused_now(opened: Opened) -> None:
    provider = Provider()
    process = Process(opened(), provider)
    attempt = await process.begin(provider)
    attempts, pipeline = Attempting(at="here", open_at="here", sent=True), Pipeline()
    other = asyncio.create_task(process.make(attempts=attempts, pipeline=pipeline, options=REFUSED))
    async with asyncio.timeout(10):
        await pipeline.told.wait()
        provider.let.set()
        assert (await other).answer == (await attempt).answer == ANSWER
    assert provider.asked == 1
