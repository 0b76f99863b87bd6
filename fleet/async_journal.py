"""The journal for the event loop of one process: its disk writes wait in a thread of their own."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from loguru import logger

from fleet.errors import JournalUnavailable
from fleet.journal import Answered, CallName, Journal, Send, Standing

# By then a task that has ended is reported, if Temporal can be reached at all.
_REPORTED_SECONDS = 60.0

Done = TypeVar("Done")


class AsyncJournal:
    """See :class:`~fleet.journal.Journal` for what its methods record."""

    def __init__(self, journal: Journal, clock: Callable[[], float] = time.monotonic) -> None:
        self._journal = journal
        self._clock = clock
        self._over: deque[tuple[float, bytes]] = deque()
        self._place = ""
        # Not the default executor: blocking provider calls may occupy all of its threads.
        self._thread = ThreadPoolExecutor(1, "journal")

    async def _run(self, act: Callable[[], Done]) -> Done:
        return await asyncio.get_running_loop().run_in_executor(self._thread, act)

    async def place(self) -> str:
        """The name of the journal, which tells this host's from another's."""
        self._place = self._place or await self._run(self._journal.place)
        return self._place

    @asynccontextmanager
    async def holding(self, token: bytes) -> AsyncIterator[None]:
        """Let a survivor hand Temporal's task of that token back if this process dies within the block, or soon
        after it: only then is reported what came of the task. One that was reported in time is refused."""
        reported: list[bytes] = []
        while self._over and self._clock() - self._over[0][0] > _REPORTED_SECONDS:
            reported.append(self._over.popleft()[1])
        await self._run(lambda: self._journal.hold(token, reported))
        try:
            yield
        finally:
            self._over.append((self._clock(), token))

    async def see_writable(self) -> None:
        """See that a call could be written down.

        Raises:
            JournalUnavailable: it could not.
        """
        await self._run(self._journal.see_writable)

    async def answer(self, name: CallName) -> Answered | None:
        """What the call has been answered with, if it has."""
        return await self._run(lambda: self._journal.answer(name))

    async def begin(
        self, name: CallName, *, seconds: float, maybe_paid: int, unknown_before: bool, send_ambiguous: bool
    ) -> Standing:
        """How a call stands that is to be over within ``seconds``.

        If this is cancelled meanwhile, the intent is taken back: nothing was sent, and other attempts would wait.

        Raises:
            JournalUnavailable: nothing may be sent.
        """
        beginning = asyncio.ensure_future(
            self._run(
                lambda: self._journal.begin(
                    name,
                    deadline=time.time() + seconds,
                    maybe_paid=maybe_paid,
                    unknown_before=unknown_before,
                    send_ambiguous=send_ambiguous,
                )
            )
        )
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            await asyncio.wait({beginning})
            if beginning.exception() is None and isinstance(standing := beginning.result(), Send):
                # The id of a call that still runs at the provider is kept.
                await self.failed(name, unsure=standing.response_id is not None)
            raise

    async def resumable(self, name: CallName, response_id: str | None) -> None:
        """Record that the call runs at the provider under this id; None: it no longer does."""
        await self._note(lambda: self._journal.resumable(name, response_id))

    async def answered(self, name: CallName, answer: str) -> None:
        """Record the answer; if the journal cannot take it, it still goes to Temporal."""
        await self._note(lambda: self._journal.answered(name, answer))

    async def failed(self, name: CallName, *, unsure: bool = False) -> None:
        """Record that the call ended without a usable answer; ``unsure``: it was or may have been paid."""
        await self._note(lambda: self._journal.failed(name, unsure=unsure))

    async def cut_off(self, name: CallName) -> None:
        """Record that this process gave the call up in mid-air."""
        await self._note(lambda: self._journal.cut_off(name))

    async def _note(self, write: Callable[[], None]) -> None:
        """Write what came of something, which is never lost because the journal is."""
        try:
            await self._run(write)
        except JournalUnavailable as error:
            logger.error("{}; the outcome still goes to Temporal", error)

    async def close(self) -> None:
        """Close the file."""
        await self._run(self._journal.close)
        self._thread.shutdown()
