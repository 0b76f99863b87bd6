"""What this machine's journals say of a pipeline's calls. They are opened for reading only: looking makes no file
and holds up no process that writes."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

from loguru import logger

from fleet.config import Settings
from fleet.execution.journal_records import State
from fleet.process.process_id import Owner

_READ_SECONDS = 1.0
_QUERY = """
SELECT function_key, state, pid, started, boot, response_id, maybe_paid, updated FROM calls WHERE workflow_id = ?
"""


@dataclass(frozen=True)
class JournalRow:
    """The latest call of an assistant by this machine's journal. ``state`` is the journal's, reached at ``at``
    (unix seconds; an intent is recorded just before the call is sent). ``alive``: the process that made it runs;
    ``resumable``: the provider goes on with it without that process. ``maybe_paid`` counts the calls before it
    that were or may have been paid."""

    state: str
    at: float
    alive: bool = True
    resumable: bool = False
    maybe_paid: int = 0

    @property
    def under_way(self) -> bool:
        """Whether a living process has sent the call, and has no answer yet."""
        return self.state == State.INTENT and self.alive

    def sentence(self) -> str:
        """What that means, for people; empty if it adds nothing."""
        words = self._words()
        if self.maybe_paid:
            calls = "an earlier call" if self.maybe_paid == 1 else f"{self.maybe_paid} earlier calls"
            words = [*words, f"{calls} of it may have been paid"]
        return f"this machine's journal: {', '.join(words)}" if words else ""

    def _words(self) -> list[str]:
        at = _time(self.at)
        if self.state == State.ANSWERED:
            return [f"its answer is here since {at}, not yet taken by Temporal, and is delivered without a call"]
        if self.under_way:
            return [f"sent at {at}"]
        if self.state == State.INTENT and self.resumable:
            return [f"sent at {at} by a process that has died, but the provider goes on with it"]
        if self.state == State.INTENT:
            return [f"sent at {at} by a process that has died, so it may have been paid"]
        if self.state in (State.UNSURE, State.CUT_OFF):
            return [f"a call that ended at {at} without a usable answer was or may have been paid"]
        return []


def _time(at: float) -> str:
    try:
        return f"{datetime.fromtimestamp(at, UTC):%H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):  # of a damaged row
        return "an unknown time"


def journal_rows(settings: Settings, workflow_id: str) -> dict[str, JournalRow]:
    """The latest call of each assistant of a pipeline, by functionKey, as far as this machine made them. A journal
    that cannot be read is left out; ``fleet doctor`` reports it."""
    latest: dict[str, JournalRow] = {}
    for provider in settings.providers:
        try:
            for function_key, row in _rows_of(settings, provider, workflow_id):
                if function_key not in latest or latest[function_key].at < row.at:
                    latest[function_key] = row
        except (sqlite3.Error, OSError) as error:
            logger.debug("the journal of {} cannot be read: {}", provider, error)
    return latest


def _rows_of(settings: Settings, provider: str, workflow_id: str) -> Iterator[tuple[str, JournalRow]]:
    path = settings.state_dir.absolute() / "journal" / f"{provider}.db"
    if not path.exists():
        return
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_READ_SECONDS)) as journal:
        for key, state, pid, started, boot, response_id, maybe_paid, updated in journal.execute(
            _QUERY, (workflow_id,)
        ):
            alive = Owner(pid, started, boot).alive
            yield key, JournalRow(state, updated, alive, response_id is not None, int(maybe_paid))
