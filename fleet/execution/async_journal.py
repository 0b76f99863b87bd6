"""The journal for the event loop of one process: disk writes run in a separate thread. What calls record while
that thread waits for the disk is written together, with the next write."""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from loguru import logger

from fleet.errors import JournalUnavailable
from fleet.execution.journal import Journal
from fleet.execution.journal_records import Answered, Asked, CallName, CallState, Left, Send, Task

# By then the end of a task has been reported, if Temporal can be reached at all.
_REPORTED_SECONDS = 60.0
_STOOD_STILL_SECONDS, _DOUBTED_SECONDS = 5.0, 120.0
# The SDK reports an ended task by itself within this time, unless something prevents it.
_REPORTING_SECONDS = 3.0

Done = TypeVar("Done")
#: What is to be recorded, and who waits for it.
_Act = tuple[Callable[[], Any], "asyncio.Future[Any]"]


def _now() -> float:
    """Seconds, including those in which the machine slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass
class Holding:
    """A task that this process holds: ``ended`` is when its attempt was over, None while it runs; ``doubtful``:
    Temporal may not receive its outcome. ``orphaned``: it belonged to a process that is dead."""

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
        self._waiting: list[_Act] = []
        self._writing = False
        self._taking = threading.Lock()
        self._due: asyncio.Handle | None = None

    def _run(self, act: Callable[[], Done]) -> asyncio.Future[Done]:
        self._write()
        return asyncio.get_running_loop().run_in_executor(self._thread, act)

    def _record(self, act: Callable[[], Done]) -> asyncio.Future[Done]:
        """Do it in the thread, together with whatever else has been recorded until then."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Done] = loop.create_future()
        with self._taking:
            self._waiting.append((act, outcome))
            writing, self._writing = self._writing, True
        if not writing:  # once this turn of the loop is over, so that a task is held and its call begun in one
            self._due = loop.call_soon(self._write)
        return outcome

    def _write(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
            try:
                self._thread.submit(self._write_all, asyncio.get_running_loop())
            except RuntimeError as closed:
                while acts := self._taken():
                    _tell(acts, [closed] * len(acts))

    def _write_all(self, loop: asyncio.AbstractEventLoop) -> None:
        while acts := self._taken():
            loop.call_soon_threadsafe(_tell, acts, self._journal.together([act for act, _ in acts]))

    def _taken(self) -> "list[_Act]":
        with self._taking:
            taken, self._waiting = self._waiting, []
            self._writing = bool(taken)
        return taken

    async def place(self) -> str:
        """The name of the journal, which differs on every host."""
        self._place = self._place or await self._run(self._journal.place)
        return self._place

    @asynccontextmanager
    async def holding(self, task: Task) -> AsyncIterator[None]:
        """Let a surviving process report the task to Temporal if this process dies within the block, or soon after
        it: the outcome of the task is only reported then. A call may outlive an attempt that is cancelled.

        The block does not wait for the disk; no call begins there before the task is held.
        """
        held = self._held[task.token] = Holding()
        self._hold(task, self._reported())
        try:
            yield
        except asyncio.CancelledError:
            held.doubtful = True
            raise
        finally:
            held.ended = self._awake
            self._over.append(task.token)

    def _hold(self, task: Task, reported: list[bytes]) -> None:
        def ended(outcome: asyncio.Future[None]) -> None:
            if outcome.exception() is not None:  # the call cannot begin either, and says why
                self._over.extendleft(reversed(reported))  # try again the next time
                return
            for token in reported:
                self._held.pop(token, None)

        self._record(lambda: self._journal.hold(task, reported)).add_done_callback(ended)

    def _reported(self) -> list[bytes]:
        """The tasks whose outcome Temporal has certainly received; each is returned once."""
        found: list[bytes] = []
        while self._over:
            holding = self._held.get(self._over[0])
            if holding is not None and holding.ended is not None:
                if self._awake - holding.ended <= _REPORTED_SECONDS:
                    break
                if not holding.doubtful:
                    found.append(self._over[0])
            self._over.popleft()
        return found

    def passed(self, seconds: float) -> None:
        """Add the time that has passed for this process, without the time that it was frozen, since it reported
        nothing then."""
        self._awake += seconds
        if self._stood_still():
            self.doubt()
        self._passed_at = _now()

    def _stood_still(self) -> bool:
        return _now() - self._passed_at > _STOOD_STILL_SECONDS

    @property
    def in_doubt(self) -> bool:
        """Whether Temporal may recently have given up the tasks that this process works on."""
        return self._stood_still() or _now() - self._doubted_at < _DOUBTED_SECONDS

    def doubt(self) -> None:
        """Temporal may not receive the outcome of the tasks held now."""
        self._doubted_at = _now()
        for holding in self._held.values():
            holding.doubtful = True

    def doubtful(self) -> list[bytes]:
        """The tasks whose attempts ended long enough ago to have been reported, but whose outcome Temporal may not
        have received."""
        return [
            token
            for token, holding in self._held.items()
            if holding.doubtful
            and holding.ended is not None
            and (holding.orphaned or self._awake - holding.ended >= _REPORTING_SECONDS)
        ]

    async def left(self, tokens: Sequence[bytes]) -> list[Left]:
        """The outcome of these tasks, as far as the journal knows."""
        found = await self._run(lambda: self._journal.left(tokens))
        held = [(left, self._held.get(left.task.token)) for left in found]
        return [replace(left, orphaned=holding.orphaned) for left, holding in held if holding is not None]

    async def let_go(self, task: Task) -> None:
        """Temporal has received the outcome of the task."""
        await self._run(lambda: self._journal.let_go([task.token]))
        self._held.pop(task.token, None)

    async def take_orphans(self) -> None:
        """Hold the tasks of dead processes, as doubtful."""
        for token in await self._run(self._journal.take_orphans):
            self._held[token] = Holding(self._awake, doubtful=True, orphaned=True)

    async def prune(self) -> None:
        """Delete entries that are too old."""
        await self._run(self._journal.prune)

    async def unsettled(self) -> list[CallName]:
        """If the journal is at least half full: calls that it may be able to delete."""
        return await self._run(self._journal.unsettled)

    async def settled(self, names: Sequence[CallName]) -> None:
        """The pipelines of these calls no longer need them."""
        await self._run(lambda: self._journal.settled(names))

    async def see_writable(self) -> None:
        """Check that a call could be recorded.

        Raises:
            JournalUnavailable: it could not.
        """
        await self._run(self._journal.see_writable)

    async def answer(self, name: CallName, asked: Asked) -> Answered | None:
        """The call's recorded answer, None where there is none."""
        return await self._run(lambda: self._journal.answer(name, asked))

    async def has(self, name: CallName) -> bool:
        """Whether the journal has the call, in any state."""
        return await self._run(lambda: self._journal.has(name))

    async def begin(
        self,
        name: CallName,
        *,
        seconds: float,
        maybe_paid: int,
        send_ambiguous: bool,
        asked: Asked,
    ) -> CallState:
        """The state of a call that must be over within ``seconds``.

        If this is cancelled meanwhile, the intent is withdrawn: nothing was sent, and other attempts would wait
        for it.

        Raises:
            JournalUnavailable: nothing may be sent.
        """
        beginning = self._record(
            lambda: self._journal.begin(
                name,
                deadline=time.time() + seconds,
                maybe_paid=maybe_paid,
                send_ambiguous=send_ambiguous,
                asked=asked,
            )
        )
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            await asyncio.wait({beginning})
            if beginning.exception() is None and isinstance(call_state := beginning.result(), Send):
                # The id of a call that still runs at the provider is kept.
                await self.failed(name, unsure=call_state.response_id is not None)
            raise

    async def resumable(self, name: CallName, response_id: str | None) -> None:
        """Record that the call runs at the provider under this id; None: it no longer does."""
        await self._note(lambda: self._journal.resumable(name, response_id))

    async def answered(self, name: CallName, answer: str) -> None:
        """Record the answer; if the journal cannot store it, it still goes to Temporal."""
        await self._note(lambda: self._journal.answered(name, answer))

    async def failed(self, name: CallName, *, unsure: bool = False) -> None:
        """Record that the call ended without a usable answer; ``unsure``: it was or may have been paid."""
        await self._note(lambda: self._journal.failed(name, unsure=unsure))

    async def unreadable(self, name: CallName, answer: str) -> None:
        """Record that the answer cannot be read.

        Raises:
            JournalUnavailable: it still counts as one.
        """
        await self._run(lambda: self._journal.unreadable(name, answer))

    async def cut_off(self, name: CallName) -> None:
        """Record that this process cut off the call in flight."""
        await self._note(lambda: self._journal.cut_off(name))

    async def _note(self, write: Callable[[], None]) -> None:
        """Record an outcome; if the journal is unavailable, the outcome is not lost but still goes to Temporal."""
        try:
            await self._record(write)
        except JournalUnavailable as error:
            logger.error("{}; the outcome still goes to Temporal", error)

    async def close(self) -> None:
        """Close the file."""
        await self._run(self._journal.close)
        self._thread.shutdown()


def _tell(acts: Iterable[_Act], outcomes: Iterable[Any]) -> None:
    for (_, future), outcome in zip(acts, outcomes, strict=True):
        if future.done():
            continue  # nobody waits any more
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
