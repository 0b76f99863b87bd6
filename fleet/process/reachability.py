"""Whether this process can send calls at all. If it cannot, it takes none.

On a machine without a network route, name resolution, a correct clock or free disk space, every call fails within
milliseconds. Such a process is always free, so it would get most of a queue's calls::

    takes calls ──(five in a row fail before they are sent)──► probes once ──(probe succeeds)──► takes calls
         ▲                                                            │ probe fails
         └──────────────────(a probe succeeds)────────────── probing ◄┘  after 1, 2, 4 … 60 s, takes no call

A probe requests nothing from the provider that is paid, and removes at once what it writes to the journal.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

from loguru import logger

from fleet.errors import FleetError, ProviderError
from fleet.process.liveness import Unreachable

#: This many failures in a row, over at least this time, are not taken as chance.
FAILURES_IN_A_ROW, IN_A_ROW_SECONDS = 5, 1.0
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 60.0
_SPREAD = 0.1
# If calls keep failing although probes succeed, the calls are believed and not the probe.
_MAX_FALSE_ALARMS = 2

#: Does one thing that every call needs; raises a FleetError if that fails.
Probe = Callable[[], Awaitable[None]]


@dataclass
class Row:
    """Consecutive calls that failed before they were sent. Times are monotonic seconds."""

    failures: int = 0
    since: float = 0.0

    def fails(self, now: float) -> bool:
        """Count one more failure; returns whether there are too many for chance."""
        self.since = self.since if self.failures else now
        self.failures += 1
        return self.failures >= FAILURES_IN_A_ROW and now - self.since >= IN_A_ROW_SECONDS

    def end(self) -> None:
        """A call was sent: start counting again."""
        self.failures = 0


def wait_after(tries: int) -> float:
    """Seconds to wait for the next probe after that many tries."""
    return float(min(FIRST_WAIT_SECONDS * 2 ** min(tries, 10), LONGEST_WAIT_SECONDS))


async def _nothing() -> None:
    pass


@dataclass
class Reach:
    """Whether one process can send calls. ``probes`` check what calls need, by the words that follow "cannot" in
    messages; ``renew`` discards the cached state of the connections. The wait grows until a call has been sent."""

    probes: Mapping[str, Probe]
    renew: Callable[[], Awaitable[None]] = _nothing
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _row: Row = field(default_factory=Row)
    _suspected: asyncio.Event = field(default_factory=asyncio.Event)
    _last: str = ""
    _false_alarms: int = 0
    _tries: int = 0

    def ended(self, error: Exception | None) -> None:
        """An attempt at a call ended with that error, or with success if None."""
        if error is None or (isinstance(error, ProviderError) and not error.before_sending):
            self._row.end()
            self._tries = self._false_alarms = 0
        elif isinstance(error, FleetError) and error.before_sending:
            self._last = str(error)
            if self._row.fails(self.clock()):
                self._suspected.set()

    async def lost(self) -> Unreachable:
        """Wait until no call can be sent from here; returns the cause."""
        while True:
            await self._suspected.wait()
            self._begin_anew()
            found = await self._probe()
            if found is None and self._false_alarms < _MAX_FALSE_ALARMS:
                self._false_alarms += 1
                logger.warning("calls fail before they are sent, but a probe comes through: {}", self._last)
                continue
            found = found or Unreachable(f"send calls, though it can {' and '.join(self.probes)}", self._last)
            logger.error("🚫 NO CALL CAN BE SENT: this process cannot {}: {}", found.cannot, found.why)
            return found

    async def regained(
        self, known: Unreachable, tell: Callable[[Unreachable], None], *, at_once: bool = False
    ) -> None:
        """Wait until calls can be sent again; until then, pass the current cause to ``tell``. ``at_once``: the
        first probe is sent without a wait."""
        found: Unreachable | None = known
        while found is not None:
            wait = 0.0 if at_once else wait_after(self._tries) * (1 + _SPREAD * random.random())
            self._tries, at_once = self._tries + (not at_once), False
            known = replace(found, since=known.since, probes=known.probes, next_at=time.time() + wait)
            tell(known)
            await self.sleep(wait)
            found = await self._probe()
            known.probes += 1
        self._begin_anew()
        await self.renew()
        logger.info(
            "✔ CALLS CAN BE SENT again, after {} probes in {:.0f} s", known.probes, time.time() - known.since
        )

    def _begin_anew(self) -> None:
        self._row.end()
        self._suspected.clear()

    async def _probe(self) -> Unreachable | None:
        """The first of the things that calls need that fails; None if all succeed."""
        for cannot, probe in self.probes.items():
            try:
                await probe()
            except FleetError as error:
                return Unreachable(cannot, str(error), since=time.time())
            except Exception as error:  # such as a certificate file that is only half written
                return Unreachable(cannot, f"{type(error).__name__}: {error}", since=time.time())
        return None
