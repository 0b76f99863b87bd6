"""Provider calls under the journal: each is a task of its own that outlives the attempt which began it.

An attempt may end while its call goes on: Temporal was away, or the process stood still for longer than the
heartbeat timeout. The call is then not cut off; the next attempt, in whichever process of this host, finds it
in the journal and waits for its answer.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any, TypeVar

from loguru import logger

from fleet.errors import AmbiguousCall, JournalUnavailable, ProviderError
from fleet.journal import Ambiguous, Answered, CallName, Journal, Send, Standing, Wait
from fleet.providers.base import LlmAnswer, Ticket

_LOOK_SECONDS = 0.25
_CLOSE_SECONDS = 20.0
# By then a task that has ended is reported, if Temporal can be reached at all.
_REPORTED_SECONDS = 60.0

Ask = Callable[[Ticket], Awaitable[LlmAnswer]]
Done = TypeVar("Done")


@dataclass(frozen=True)
class Recorded:
    """An answer as the journal keeps it. ``attempts`` is the number of calls that it took; ``maybe_paid`` is how
    many earlier ones were or may have been paid."""

    answer: LlmAnswer
    started: str = ""
    seconds: float = 0.0
    attempts: int = 1
    maybe_paid: int = 0

    def to_json(self) -> str:
        """For the journal. Headers are not kept: the budget has read them, and there may be cookies among them.

        A new field would break 0.1.0, which takes no field that it does not know.
        """
        values = asdict(self)
        del values["answer"]["headers"]
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str, maybe_paid: int) -> "Recorded":
        """From the journal. During a roll two releases share it, so unknown fields are ignored."""
        values = json.loads(text)
        answer = LlmAnswer(**_known(LlmAnswer, values["answer"]))
        return cls(**(_known(cls, values) | {"answer": answer, "maybe_paid": maybe_paid}))


def _known(kind: type[LlmAnswer | Recorded], values: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in values.items() if name in names}


@dataclass(frozen=True)
class Order:
    """A call to be made at most once: ``ask`` makes it, within ``seconds``; ``attempts`` is what it will be the
    number of. See :meth:`fleet.journal.Journal.begin` for the rest."""

    name: CallName
    ask: Ask
    seconds: float
    attempts: int
    response_id: str | None = None
    maybe_paid: int = 0
    unknown_before: bool = False
    send_ambiguous: bool = True
    on_sending: Callable[[int], None] = lambda maybe_paid: None
    on_response_id: Callable[[str], None] = lambda response_id: None


class Calls:
    """The calls of one process."""

    def __init__(self, journal: Journal, clock: Callable[[], float] = time.monotonic) -> None:
        self._journal = journal
        self._clock = clock
        self._over: deque[tuple[float, bytes]] = deque()
        self._running: dict[str, asyncio.Task[Recorded]] = {}
        # Two attempts at one call must not both find that it is to be sent.
        self._deciding = asyncio.Lock()
        self._place = ""
        # Not the default executor: blocking provider calls may occupy all of its threads.
        self._thread = ThreadPoolExecutor(1, "journal")

    async def _journaled(self, act: Callable[[], Done]) -> Done:
        """Run a call to the journal in the journal's own thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, act)

    async def place(self) -> str:
        """The name of the journal, which tells this host's from another's."""
        self._place = self._place or await self._journaled(self._journal.place)
        return self._place

    @asynccontextmanager
    async def holding(self, token: bytes) -> AsyncIterator[None]:
        """Let a survivor hand Temporal's task of that token back if this process dies within the block, or soon
        after it: only then is reported what came of the task. One that was reported in time is refused."""
        reported: list[bytes] = []
        while self._over and self._clock() - self._over[0][0] > _REPORTED_SECONDS:
            reported.append(self._over.popleft()[1])
        await self._journaled(lambda: self._journal.hold(token, reported))
        try:
            yield
        finally:
            self._over.append((self._clock(), token))

    async def make(self, order: Order) -> Recorded:
        """The recorded answer, an answer that is on its way already, or that of a call made now.

        Cancelled, it leaves the call running; :meth:`cut_off` ends it.

        Raises:
            ProviderError: the call failed.
            AmbiguousCall: an earlier one was or may have been paid, and by policy it is not sent again.
            JournalUnavailable: nothing was sent.
        """
        while True:
            async with self._deciding:
                decided = self._running.get(order.name.key) or await self._decide(order)
            if isinstance(decided, Recorded):
                return decided
            if decided is not None:
                return await asyncio.shield(decided)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _decide(self, order: Order) -> "Recorded | asyncio.Task[Recorded] | None":
        """What the journal has, a call that is begun now, or None while another process is at it."""
        match await self._begin(order):
            case Answered(answer, maybe_paid):
                logger.info("answered before: taken from the journal, not sent again")
                return Recorded.from_json(answer, maybe_paid)
            case Wait(owner):
                logger.debug("process {} is at this call: waiting for its answer", owner.pid)
                return None
            case Ambiguous():
                raise AmbiguousCall(order.name.function_key, "an earlier call was cut off or lost")
            case Send() as standing:
                return self._start(order, standing)

    async def _begin(self, order: Order) -> Standing:
        """How the call stands in the journal.

        If it is cancelled meanwhile, the intent is taken back: nothing was sent, and other attempts would wait.
        """
        beginning = asyncio.ensure_future(
            self._journaled(
                lambda: self._journal.begin(
                    order.name,
                    deadline=time.time() + order.seconds,
                    maybe_paid=order.maybe_paid,
                    unknown_before=order.unknown_before and order.response_id is None,
                    send_ambiguous=order.send_ambiguous,
                )
            )
        )
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            await asyncio.wait({beginning})
            if beginning.exception() is None and isinstance(standing := beginning.result(), Send):
                # The id of a call that still runs at the provider is kept.
                goes_on = standing.response_id is not None
                await self._note(lambda: self._journal.failed(order.name, unsure=goes_on))
            raise

    def _start(self, order: Order, standing: Send) -> "asyncio.Task[Recorded]":
        key = order.name.key
        if standing.maybe_paid:
            logger.warning("sent again although {} earlier call(s) may have been paid", standing.maybe_paid)
        order.on_sending(standing.maybe_paid)
        task = asyncio.create_task(self._send(order, standing), name=f"call {order.name.function_key}")
        self._running[key] = task
        task.add_done_callback(lambda done: self._forget(key, done))
        return task

    def _forget(self, key: str, done: "asyncio.Task[Recorded]") -> None:
        self._running.pop(key, None)
        if not done.cancelled():
            done.exception()  # whoever waited has it; a call that nobody waits for any more stands in the journal

    async def _send(self, order: Order, standing: Send) -> Recorded:
        journal, name = self._journal, order.name

        async def told(response_id: str) -> None:
            order.on_response_id(response_id)
            await self._journaled(lambda: journal.resumable(name, response_id or None))

        ticket = Ticket(standing.response_id or order.response_id, told)
        began, started = time.monotonic(), datetime.now(UTC)
        try:
            answer = await order.ask(ticket)
        except asyncio.CancelledError:
            await self._journaled(lambda: journal.cut_off(name))
            raise
        except ProviderError as error:
            unsure = error.may_be_billed
            await self._note(lambda: journal.failed(name, unsure=unsure))
            raise
        except Exception:
            await self._note(lambda: journal.failed(name))
            raise
        recorded = Recorded(
            answer=answer,
            started=started.isoformat(timespec="milliseconds"),
            seconds=round(time.monotonic() - began, 3),
            attempts=order.attempts,
            maybe_paid=standing.maybe_paid,
        )
        await self._note(lambda: journal.answered(name, recorded.to_json()))
        return recorded

    async def _note(self, write: Callable[[], None]) -> None:
        """Write what came of something; it is never lost because the journal is."""
        try:
            await self._journaled(write)
        except JournalUnavailable as error:
            logger.error("{}; Temporal is told all the same", error)

    async def cut_off(self, name: CallName) -> bool:
        """End a call in mid-air and record that; whether there was one."""
        running = self._running.get(name.key)
        if running is None:
            return False
        running.cancel()
        await asyncio.wait({running})
        return True

    async def close(self) -> None:
        """Wait a while for calls whose attempts are gone, then cut them off."""
        if running := set(self._running.values()):
            logger.info("{} calls are still on their way", len(running))
            _, late = await asyncio.wait(running, timeout=_CLOSE_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        await self._journaled(self._journal.close)
        self._thread.shutdown()
