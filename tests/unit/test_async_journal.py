"""The journal for the event loop: what is held, and what is taken back."""

import asyncio
import threading
from typing import Any

import pytest

from fleet.async_journal import AsyncJournal
from fleet.journal import Journal, Standing
from tests.unit.call_world import NAME, Opened, Process, Provider, opened

__all__ = ["opened"]


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
    monkeypatch.setattr("fleet.call_runner._is_to_end", lambda: False)
    monkeypatch.setattr("fleet.call_runner._is_unwanted", lambda: False)
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
    held, now = opened(), 0.0
    journal = AsyncJournal(held, lambda: now)
    for token in (b"first", b"second"):
        async with journal.holding(token):
            assert token in tokens(held)
    assert tokens(held) == {b"first", b"second"}, "they have ended, and may not have been reported"
    now = 61.0
    async with journal.holding(b"third"):
        assert tokens(held) == {b"third"}


def tokens(journal: Journal) -> set[bytes]:
    with journal._file.reading() as connection:
        return {bytes(row["token"]) for row in connection.execute("SELECT token FROM tasks")}
