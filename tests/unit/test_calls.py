"""Calls under the journal: made once, whoever waits for them and however often they are asked for."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet.calls import Ask, Calls, Order, Recorded
from fleet.errors import AmbiguousCall, JournalUnavailable, ProviderError
from fleet.journal import CallName, Journal, Standing
from fleet.meanings import Billed, Meaning, traits_of
from fleet.providers.base import LlmAnswer, Ticket

NAME = CallName("key", "workflow", "draft")
ANSWER = LlmAnswer("text", "gpt-4o", "stop", 10, 20)


class Provider:
    """Answers when it is let; counts what it was asked."""

    def __init__(self, error: ProviderError | None = None) -> None:
        self.asked = 0
        self.error = error
        self.let = asyncio.Event()
        self.arrived = asyncio.Event()

    async def ask(self, ticket: Ticket) -> LlmAnswer:
        self.asked += 1
        self.arrived.set()
        await self.let.wait()
        if self.error is not None:
            raise self.error
        return ANSWER


Opened = Callable[[], Journal]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """Opens the one journal, as each process does for itself."""
    journals: list[Journal] = []

    def opens() -> Journal:
        journals.append(Journal(tmp_path / "openai.db", max_bytes=10**8, keep_seconds=3600))
        return journals[-1]

    yield opens
    for journal in journals:
        journal.close()


def order(ask: Ask, *, send_ambiguous: bool = True) -> Order:
    return Order(NAME, ask, seconds=60, attempts=1, send_ambiguous=send_ambiguous)


async def begun(made: Calls, provider: Provider) -> "asyncio.Task[Recorded]":
    """An attempt whose call is on its way."""
    attempt = asyncio.create_task(made.make(order(provider.ask)))
    async with asyncio.timeout(10):
        await provider.arrived.wait()
    return attempt


async def test_an_answer_is_taken_from_the_journal_the_second_time(opened: Opened) -> None:
    provider = Provider()
    provider.let.set()
    first = await Calls(opened()).make(order(provider.ask))
    assert await Calls(opened()).make(order(provider.ask)) == first
    assert (first.answer, first.maybe_paid, provider.asked) == (ANSWER, 0, 1)


async def test_two_attempts_at_once_share_one_call(opened: Opened) -> None:
    made, provider = Calls(opened()), Provider()
    first = await begun(made, provider)
    others = [asyncio.create_task(made.make(order(provider.ask))) for _ in range(4)]
    await asyncio.sleep(0)
    provider.let.set()
    found = await asyncio.gather(first, *others)
    assert [one.answer for one in found] == [ANSWER] * 5 and provider.asked == 1


async def test_an_attempt_that_is_given_up_leaves_its_call_to_the_next(opened: Opened) -> None:
    made, provider = Calls(opened()), Provider()
    attempt = await begun(made, provider)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    following = asyncio.create_task(made.make(order(provider.ask)))
    await asyncio.sleep(0)
    provider.let.set()
    assert (await following).maybe_paid == 0
    assert provider.asked == 1


async def test_a_call_that_is_cut_off_is_counted_or_refused_by_policy(opened: Opened) -> None:
    made, provider = Calls(opened()), Provider()
    attempt = await begun(made, provider)
    assert await made.cut_off(NAME)
    with pytest.raises(asyncio.CancelledError):
        await attempt
    assert not await made.cut_off(NAME)
    with pytest.raises(AmbiguousCall, match="may have been paid"):
        await made.make(order(provider.ask, send_ambiguous=False))
    provider.let.set()
    assert (await made.make(order(provider.ask))).maybe_paid == 1


@pytest.mark.parametrize("meaning", Meaning)
async def test_a_failed_call_is_counted_or_not_sent_again_where_the_table_says_that_it_may_be_billed(
    opened: Opened, meaning: Meaning
) -> None:
    made, provider = Calls(opened()), Provider(ProviderError(meaning, "openai", "…"))
    provider.let.set()
    with pytest.raises(ProviderError):
        await made.make(order(provider.ask))
    provider.error, billed = None, traits_of(meaning).billed is not Billed.NO
    with pytest.raises(AmbiguousCall) if billed else nullcontext():
        await made.make(order(provider.ask, send_ambiguous=False))
    assert provider.asked == (1 if billed else 2)
    assert (await made.make(order(provider.ask))).maybe_paid == int(billed)
    assert provider.asked == 2


@pytest.mark.parametrize("known", [True, False], ids=["goes on", "is gone"])
async def test_a_failed_poll_leaves_the_call_to_the_next_attempt_while_the_provider_knows_it(
    opened: Opened, known: bool
) -> None:
    """Its id is picked up, and nothing is paid twice; without it, it may have been."""
    tickets: list[str | None] = []

    async def ask(ticket: Ticket) -> LlmAnswer:
        tickets.append(ticket.response_id)
        if len(tickets) == 2:
            return ANSWER
        await ticket.begun("r-1")
        if not known:
            await ticket.gone()
        failure = ProviderError(Meaning.KEY_REJECTED if known else Meaning.LOST_AFTER_SENDING, "openai", "…")
        failure.goes_on = known
        raise failure

    with pytest.raises(ProviderError):
        await Calls(opened()).make(order(ask))
    assert (await Calls(opened()).make(order(ask))).maybe_paid == (0 if known else 1)
    assert tickets == [None, "r-1" if known else None]


async def test_without_a_journal_nothing_is_sent(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "openai.db").write_bytes(b"no database" * 100)
    provider = Provider()
    with pytest.raises(JournalUnavailable):
        await Calls(opened()).make(order(provider.ask))
    assert provider.asked == 0


async def test_an_answer_that_the_journal_cannot_take_is_given_all_the_same(opened: Opened) -> None:
    journal = opened()
    made, provider = Calls(journal), Provider()

    def refuse(name: CallName, answer: str) -> None:
        raise JournalUnavailable("the disk is gone")

    journal.answered = refuse  # type: ignore[method-assign]
    provider.let.set()
    assert (await made.make(order(provider.ask))).answer == ANSWER


async def test_closing_cuts_off_what_does_not_end(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.calls._CLOSE_SECONDS", 0.05)
    made, provider = Calls(opened()), Provider()
    attempt = await begun(made, provider)
    await made.close()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    with pytest.raises(AmbiguousCall):
        await Calls(opened()).make(order(provider.ask, send_ambiguous=False))


async def test_an_attempt_that_is_cancelled_while_the_journal_begins_leaves_no_intent(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, asked, let = opened(), threading.Event(), threading.Event()
    begin = journal.begin

    def slow(*arguments: Any, **options: Any) -> Standing:
        standing = begin(*arguments, **options)
        asked.set()
        let.wait(10)
        return standing

    monkeypatch.setattr(journal, "begin", slow)
    made, provider = Calls(journal), Provider()
    attempt = asyncio.create_task(made.make(order(provider.ask)))
    await asyncio.to_thread(asked.wait, 10)
    attempt.cancel()
    await asyncio.sleep(0)
    let.set()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    assert provider.asked == 0 and opened().counts().by_state["failed"] == 1
    provider.let.set()
    monkeypatch.setattr(journal, "begin", begin)
    assert (await made.make(order(provider.ask))).maybe_paid == 0


async def test_the_journal_is_written_while_all_other_threads_are_busy(opened: Opened) -> None:
    """A blocking client may hold each of them for the length of a call."""
    busy, over = ThreadPoolExecutor(1), threading.Event()
    asyncio.get_running_loop().set_default_executor(busy)
    busy.submit(over.wait)
    try:
        made, provider = Calls(opened()), Provider()
        provider.let.set()
        async with asyncio.timeout(10), made.holding(b"token"):
            assert (await made.make(order(provider.ask))).answer == ANSWER
            await made.close()
    finally:
        over.set()


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


async def test_a_task_is_held_until_what_came_of_it_is_surely_reported(opened: Opened) -> None:
    held, now = opened(), 0.0
    calls = Calls(held, lambda: now)
    for token in (b"first", b"second"):
        async with calls.holding(token):
            assert token in tokens(held)
    assert tokens(held) == {b"first", b"second"}, "they have ended, and may not have been reported"
    now = 61.0
    async with calls.holding(b"third"):
        assert tokens(held) == {b"third"}


def tokens(journal: Journal) -> set[bytes]:
    with journal._reading() as connection:
        return {bytes(row["token"]) for row in connection.execute("SELECT token FROM tasks")}
