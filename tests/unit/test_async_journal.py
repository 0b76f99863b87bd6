"""The journal for the event loop: what is held, and what is taken back."""

import asyncio
import threading
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from fleet.errors import JournalUnavailable
from fleet.execution.async_journal import AsyncJournal
from fleet.execution.journal import Journal
from fleet.execution.journal_records import CallName, CallState, Send, Task
from tests.unit.call_world import ASKED, NAME, TASK, Opened, Process, Provider, opened

__all__ = ["opened"]

OTHER, THIRD = (CallName(key, NAME.workflow_id, NAME.function_key) for key in ("other", "third"))


async def test_an_attempt_that_is_cancelled_while_the_journal_begins_leaves_no_intent(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, asked, let = opened(), threading.Event(), threading.Event()
    begin = journal.begin

    def slow(*arguments: Any, **options: Any) -> CallState:
        budget_status = begin(*arguments, **options)
        asked.set()
        let.wait(10)
        return budget_status

    monkeypatch.setattr(journal, "begin", slow)
    monkeypatch.setattr("fleet.execution.call_runner._is_to_end", lambda: False)
    monkeypatch.setattr("fleet.execution.call_runner._is_unwanted", lambda: False)
    provider = Provider()
    process = Process(journal, provider)
    attempt = asyncio.create_task(process.make())
    await asyncio.to_thread(asked.wait, 10)
    attempt.cancel()
    await asyncio.sleep(0)
    let.set()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    assert provider.asked == 0 and opened().counts().by_state["failed"] == 1
    provider.let.set()
    monkeypatch.setattr(journal, "begin", begin)
    assert (await process.make()).maybe_paid == 0


async def test_the_id_of_a_call_that_goes_on_is_no_reason_to_end_it(opened: Opened) -> None:
    """It stands in the heartbeats, too."""
    journal = opened()
    journal.begin(NAME, deadline=9e9)
    journal.close()
    damaged = opened()
    damaged._file.path.write_bytes(b"no database" * 100)
    await AsyncJournal(damaged).resumable(NAME, "r-1")


async def test_a_task_is_held_until_what_came_of_it_is_surely_reported(opened: Opened) -> None:
    held = opened()
    journal = AsyncJournal(held)
    for token in (b"first", b"second"):
        async with journal.holding(task(token)):
            assert token in await written(journal, held)
    assert tokens(held) == {b"first", b"second"}, "they have ended, and may not have been reported"
    journal.passed(61.0)
    async with journal.holding(task(b"third")):
        assert await written(journal, held) == {b"third"}


async def test_a_task_in_doubt_is_held_until_somebody_lets_it_go(opened: Opened) -> None:
    held = opened()
    journal = AsyncJournal(held)
    async with journal.holding(task(b"in doubt")):
        journal.doubt()
        assert journal.doubtful() == [], "its attempt may still report it"
    assert journal.doubtful() == [], "the SDK may be about to report it"
    journal.passed(61.0)
    async with journal.holding(task(b"next")):
        assert journal.doubtful() == [b"in doubt"]
    (left,) = await journal.left(journal.doubtful())
    assert left.task == task(b"in doubt")
    await journal.let_go(left.task)
    assert tokens(held) == {b"next"} and journal.doubtful() == []


async def test_a_task_whose_attempt_was_cancelled_is_in_doubt_since_its_call_may_go_on(opened: Opened) -> None:
    held = opened()
    journal = AsyncJournal(held)
    with pytest.raises(asyncio.CancelledError):
        async with journal.holding(TASK):
            held.begin(NAME, deadline=9e9, asked=ASKED)
            raise asyncio.CancelledError
    journal.passed(61.0)
    async with journal.holding(task(b"next")):
        await written(journal, held)
    (left,) = await journal.left(journal.doubtful())
    assert left.running and tokens(held) == {TASK.token, b"next"}
    held.answered(NAME, "text")
    (left,) = await journal.left(journal.doubtful())
    assert left.answer == "text"


async def test_what_the_journal_could_not_let_go_is_let_go_later(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = opened()
    journal = AsyncJournal(held)
    async with journal.holding(task(b"first")):
        await written(journal, held)
    journal.passed(61.0)
    with monkeypatch.context() as patch:
        patch.setattr(held, "hold", lambda *arguments: (_ for _ in ()).throw(JournalUnavailable("full")))
        async with journal.holding(task(b"second")):
            assert await written(journal, held) == {b"first"}
    async with journal.holding(task(b"third")):
        assert await written(journal, held) == {b"third"}


async def test_a_task_is_held_and_its_call_begun_in_one_write(opened: Opened) -> None:
    held = opened()
    journal, statements = AsyncJournal(held), traced(held)
    async with journal.holding(TASK):
        begun = await journal.begin(NAME, seconds=60.0, maybe_paid=0, send_ambiguous=True, asked=ASKED)
    assert begun == Send(0) and tokens(held) == {TASK.token} and states(held) == {"intent": 1}
    assert statements.count("COMMIT") == 1 and "PRAGMA synchronous=NORMAL" not in statements


async def test_what_is_recorded_while_the_disk_is_busy_is_one_write_and_fails_alone(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, disk = opened(), threading.Event()
    held.begin(NAME, deadline=9e9)
    journal, statements, first = AsyncJournal(held), traced(held), held._first

    def full(connection: object, name: CallName, *arguments: Any) -> None:
        if name == OTHER:
            raise JournalUnavailable("full")
        first(connection, name, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(held, "_first", full)
    begin = partial(journal.begin, seconds=60.0, maybe_paid=1, send_ambiguous=True, asked=ASKED)
    busy = journal._run(disk.wait)
    recording = asyncio.gather(begin(OTHER), journal.answered(NAME, "text"), begin(THIRD), return_exceptions=True)
    await asyncio.sleep(0)
    disk.set()
    assert await busy
    refused, *recorded = await recording
    assert isinstance(refused, JournalUnavailable) and recorded == [None, Send(1)]
    assert statements.count("COMMIT") == 1, statements
    assert states(held) == {"answered": 1, "intent": 1}
    with held._file.reading() as connection:
        asked = [row["key"] for row in connection.execute("SELECT key FROM asked")]
    assert asked == [THIRD.key], "what the refused one had written is undone"


async def test_if_the_disk_does_not_take_them_none_is_recorded(opened: Opened) -> None:
    held = opened()
    journal = AsyncJournal(held)
    with held._file.reading() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages + 2}")
    begun = [
        journal.begin(
            CallName(f"{number}" * 3000, "w", "f"), seconds=60.0, maybe_paid=0, send_ambiguous=True, asked=ASKED
        )
        for number in range(8)
    ]
    found = await asyncio.gather(*begun, return_exceptions=True)
    assert [type(outcome) for outcome in found] == [JournalUnavailable] * 8
    with held._file.reading() as connection:
        connection.execute("PRAGMA max_page_count=100000")
    assert states(held) == {} and held.begin(NAME, deadline=9e9) == Send(0)


async def test_what_comes_after_the_end_is_refused(opened: Opened) -> None:
    journal = AsyncJournal(opened())
    await journal.close()
    for _ in range(2):
        async with asyncio.timeout(10):
            with pytest.raises(RuntimeError):
                await journal.answered(NAME, "text")


def states(journal: Journal) -> dict[str, int]:
    return {state: count for state, count in journal.counts().by_state.items() if count}


def traced(journal: Journal) -> list[str]:
    """The SQL statements that it executes from now on."""
    statements: list[str] = []
    with journal._file.reading() as connection:
        connection.set_trace_callback(statements.append)
    return statements


async def written(journal: AsyncJournal, held: Journal) -> set[bytes]:
    """The tokens that it holds, once what was recorded until now is written."""
    await journal.unsettled()
    return tokens(held)


def task(token: bytes) -> Task:
    return replace(TASK, token=token, function_key=token.decode())


def tokens(journal: Journal) -> set[bytes]:
    with journal._file.reading() as connection:
        return {bytes(row["token"]) for row in connection.execute("SELECT token FROM tasks")}


async def test_a_process_that_stood_still_doubts(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("fleet.execution.async_journal._now", lambda: now)
    journal = AsyncJournal(opened())
    now += 2.0
    journal.passed(1.0)
    assert not journal.in_doubt
    now += 6.0
    assert journal.in_doubt
    journal.passed(1.0)
    assert journal.in_doubt
    for _ in range(121):
        now += 1.0
        journal.passed(1.0)
    assert not journal.in_doubt
