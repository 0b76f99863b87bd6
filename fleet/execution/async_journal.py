"""The journal for the event loop of one process: its disk writes wait in a thread of their own."""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from loguru import logger

from fleet.errors import JournalUnavailable
from fleet.execution.journal import Answered, Asked, BudgetStatus, CallName, Journal, Left, Send, Task

# By then a task that has ended is reported, if Temporal can be reached at all.
_REPORTED_SECONDS = 60.0
_STOOD_STILL_SECONDS, _DOUBTED_SECONDS = 5.0, 120.0
# The SDK reports what has ended by itself, unless something is in its way.
_REPORTING_SECONDS = 3.0

Done = TypeVar("Done")


def _now() -> float:
    """Seconds, those that the machine slept included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass
class Holding:
    """A task that this process holds: ``ended`` is when its attempt was over, None while it works on it;
    ``doubtful``: Temporal may not hear of it. ``orphaned``: it was that of a process that is dead."""

    ended: float | None = None
    doubtful: bool = False
    orphaned: bool = False


class AsyncJournal:
    """See :class:`~fleet.execution.journal.Journal` for what its methods record."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._held: dict[bytes, Holding] = {}
        self._over: deque[bytes] = deque()
        self._awake = 0.0
        self._passed_at, self._doubted_at = _now(), -math.inf
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
    async def holding(self, task: Task) -> AsyncIterator[None]:
        """Let a survivor answer for Temporal's task if this process dies within the block, or soon after it: only
        then is reported what came of the task. A call may outlive an attempt that is cancelled."""
        held = self._held[task.token] = Holding()
        reported = self._reported()
        try:
            await self._let_go_and_hold(reported, task)
            yield
        except asyncio.CancelledError:
            held.doubtful = True
            raise
        finally:
            held.ended = self._awake
            self._over.append(task.token)

    async def _let_go_and_hold(self, reported: list[bytes], task: Task) -> None:
        try:
            await self._run(lambda: self._journal.hold(task, reported))
        except BaseException:
            self._over.extendleft(reversed(reported))  # the next time
            raise
        for token in reported:
            self._held.pop(token, None)

    def _reported(self) -> list[bytes]:
        """Those that Temporal has surely heard of; each is named once."""
        found: list[bytes] = []
        while self._over:
            one = self._held.get(self._over[0])
            if one is not None and one.ended is not None:
                if self._awake - one.ended <= _REPORTED_SECONDS:
                    break
                if not one.doubtful:
                    found.append(self._over[0])
            self._over.popleft()
        return found

    def passed(self, seconds: float) -> None:
        """So much time has passed for this process: not what it stood still for, since it reported nothing
        then."""
        self._awake += seconds
        if self._stood_still():
            self.doubt()
        self._passed_at = _now()

    def _stood_still(self) -> bool:
        return _now() - self._passed_at > _STOOD_STILL_SECONDS

    @property
    def in_doubt(self) -> bool:
        """Whether Temporal may lately have given up what this process works on."""
        return self._stood_still() or _now() - self._doubted_at < _DOUBTED_SECONDS

    def doubt(self) -> None:
        """Temporal may not hear of what is held now."""
        self._doubted_at = _now()
        for one in self._held.values():
            one.doubtful = True

    def doubtful(self) -> list[bytes]:
        """The tasks whose attempts are over, for long enough to have been reported, and which Temporal may not
        have heard of."""
        return [
            token
            for token, one in self._held.items()
            if one.doubtful
            and one.ended is not None
            and (one.orphaned or self._awake - one.ended >= _REPORTING_SECONDS)
        ]

    async def left(self, tokens: Sequence[bytes]) -> list[Left]:
        """What became of these tasks."""
        found = await self._run(lambda: self._journal.left(tokens))
        held = [(one, self._held.get(one.task.token)) for one in found]
        return [replace(one, orphaned=holding.orphaned) for one, holding in held if holding is not None]

    async def let_go(self, task: Task) -> None:
        """Temporal has heard of it."""
        await self._run(lambda: self._journal.let_go([task.token]))
        self._held.pop(task.token, None)

    async def take_orphans(self) -> None:
        """Hold what dead processes held, in doubt."""
        for token in await self._run(self._journal.take_orphans):
            self._held[token] = Holding(self._awake, doubtful=True, orphaned=True)

    async def prune(self) -> None:
        """Forget what is too old."""
        await self._run(self._journal.prune)

    async def unsettled(self) -> list[CallName]:
        """Calls that the journal, being half full, may be able to forget."""
        return await self._run(self._journal.unsettled)

    async def settled(self, names: Sequence[CallName]) -> None:
        """Their pipelines need them no more."""
        await self._run(lambda: self._journal.settled(names))

    async def see_writable(self) -> None:
        """See that a call could be written down.

        Raises:
            JournalUnavailable: it could not.
        """
        await self._run(self._journal.see_writable)

    async def answer(self, name: CallName, asked: Asked) -> Answered | None:
        """What the call has been answered with, if it has."""
        return await self._run(lambda: self._journal.answer(name, asked))

    async def begin(
        self,
        name: CallName,
        *,
        seconds: float,
        maybe_paid: int,
        send_ambiguous: bool,
        asked: Asked,
    ) -> BudgetStatus:
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
                    send_ambiguous=send_ambiguous,
                    asked=asked,
                )
            )
        )
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            await asyncio.wait({beginning})
            if beginning.exception() is None and isinstance(budget_status := beginning.result(), Send):
                # The id of a call that still runs at the provider is kept.
                await self.failed(name, unsure=budget_status.response_id is not None)
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
