"""What has been sent to a provider from this host and what came back, so that no answered call is sent again.

One SQLite file per provider, shared by its processes; each write about a call is on the disk before it counts. A
call is an *intent* before it is sent and an *answer* before Temporal receives it:

::

    intent ──► answered                     a retry gets the answer, without cost
       ├─────► failed                       it is not billed: a retry sends
       └─────► unsure, cut off, or its process died: ambiguous. It was or may have been billed: a retry is counted,
                                            or not sent, by policy

It covers only its own host. Room for new calls is made by deleting calls that their pipelines no longer need, as
``fleet.execution.recovery`` determines; if there are none, new calls are refused before they are sent. In addition
to calls, the journal holds the *tasks* that processes work on, with Temporal's token for each, until Temporal has
certainly received their outcome: an answer that Temporal may not have taken is delivered from here, and a
surviving process hands back the tasks of a dead one.
"""

import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, TypeVar

from fleet.config import Settings
from fleet.execution.journal_records import (
    Ambiguous,
    Answered,
    Asked,
    CallName,
    CallState,
    Counts,
    Left,
    Send,
    State,
    Task,
    Wait,
)
from fleet.execution.sqlite_connection import JournalFile
from fleet.process.machine_id import machine_id
from fleet.process.process_id import Owner

#: Room that an intent reserves for its answer.
ANSWER_ROOM_BYTES = 4_000_000
_KEPT_SHARE, _LOOKED_AT_SHARE = 0.75, 0.5

Done = TypeVar("Done")


class Journal:
    """One provider's journal on this host. Its methods block for a disk write; use it from a thread."""

    @classmethod
    def of(cls, settings: Settings, provider: str) -> Self:
        """The journal of a provider in the settings' state folder."""
        return cls(
            settings.state_dir / "journal" / f"{provider}.db",
            max_bytes=int(settings.journal_max_mb * 1_000_000),
            keep_seconds=settings.journal_keep_days * 86_400,
            machine=machine_id(settings.state_dir),
        )

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        keep_seconds: float,
        owner: Owner | None = None,
        clock: Callable[[], float] = time.time,
        machine: str = "",
    ) -> None:
        self._file = JournalFile(path, machine)
        self._max_bytes = max_bytes
        self._keep_seconds = keep_seconds
        self._owner = owner or Owner.current()
        self._clock = clock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def together(self, acts: Sequence[Callable[[], Done]]) -> list[Done | Exception]:
        """Do several of the things below, with one write to the disk for all; what each returns or raises. If that
        write fails, each of them has failed."""
        if len(acts) == 1:
            return [_outcome_of(acts[0])]
        try:
            with self._file.writing():
                return [_outcome_of(act) for act in acts]
        except Exception as error:
            return [error] * len(acts)

    def place(self) -> str:
        """The name of this journal, which differs from every other host's.

        Raises:
            JournalUnavailable: the file cannot be used. So does every other method.
        """
        with self._file.writing() as connection:
            row = connection.execute("SELECT id FROM place").fetchone()
            if row is None:
                row = (uuid.uuid4().hex,)
                connection.execute("INSERT INTO place VALUES (?)", row)
            return str(row[0])

    def answer(self, name: CallName, asked: Asked | None = None) -> Answered | None:
        """The call's recorded answer, None where there is none; who ``asked`` is recorded only where there is
        one."""
        with self._file.reading() as connection:
            row = connection.execute(
                "SELECT answer, maybe_paid FROM calls WHERE key = ? AND state = 'answered'", (name.key,)
            ).fetchone()
        if row is None:
            return None
        if asked is not None:
            with self._file.writing() as connection:
                _note_asked(connection, name, asked)
        return Answered(row["answer"], int(row["maybe_paid"]))

    def has(self, name: CallName) -> bool:
        """Whether the call was begun on this host; in any state."""
        with self._file.reading() as connection:
            return connection.execute("SELECT 1 FROM calls WHERE key = ?", (name.key,)).fetchone() is not None

    def begin(
        self,
        name: CallName,
        *,
        deadline: float,
        maybe_paid: int = 0,
        send_ambiguous: bool = True,
        asked: Asked | None = None,
    ) -> CallState:
        """The state of a call; :class:`Send` records the call as this process's intent. Who ``asked`` is recorded
        too.

        ``deadline`` is when the call will be over at the latest. ``maybe_paid`` counts the earlier calls that were
        or may have been paid, including those in other journals. ``send_ambiguous``: send again a call that may
        have been paid.
        """
        with self._file.writing() as connection:
            row = connection.execute("SELECT * FROM calls WHERE key = ?", (name.key,)).fetchone()
            connection.execute("DELETE FROM settled WHERE key = ?", (name.key,))
            if asked is not None:
                _note_asked(connection, name, asked)
            if row is not None:
                return self._again(connection, row, name, deadline, maybe_paid, send_ambiguous)
            if maybe_paid and not send_ambiguous:
                return Ambiguous(maybe_paid)
            self._make_room(connection)
            self._first(connection, name, deadline, maybe_paid)
            return Send(maybe_paid)

    def _first(self, connection: sqlite3.Connection, name: CallName, deadline: float, maybe_paid: int) -> None:
        owner = self._owner
        connection.execute(
            "INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, ?, ?)",
            (
                name.key,
                name.workflow_id,
                name.function_key,
                State.INTENT,
                owner.pid,
                owner.started,
                owner.boot,
                deadline,
                maybe_paid,
                self._clock(),
            ),
        )

    def _again(
        self,
        connection: sqlite3.Connection,
        row: sqlite3.Row,
        name: CallName,
        deadline: float,
        elsewhere: int,
        send_ambiguous: bool,
    ) -> CallState:
        state, maybe_paid = State.read(row["state"]), int(row["maybe_paid"])
        owner = Owner(row["pid"], row["started"], row["boot"])
        if state is State.ANSWERED:
            return Answered(row["answer"], maybe_paid)
        theirs = state is State.INTENT and owner != self._owner and owner.alive
        if theirs and self._clock() < row["deadline"]:
            return Wait(owner, row["deadline"])
        resumed = row["response_id"] if state is not State.FAILED else None
        here = maybe_paid + (state is not State.FAILED and resumed is None)
        maybe_paid = max(here, elsewhere)
        if maybe_paid and resumed is None and not send_ambiguous:
            return Ambiguous(maybe_paid)
        self._make_room(connection)
        connection.execute(
            "UPDATE calls SET state = ?, pid = ?, started = ?, boot = ?, deadline = ?, response_id = ?, "
            "maybe_paid = ?, updated = ? WHERE key = ?",
            (
                State.INTENT,
                self._owner.pid,
                self._owner.started,
                self._owner.boot,
                deadline,
                resumed,
                maybe_paid,
                self._clock(),
                name.key,
            ),
        )
        return Send(maybe_paid, resumed)

    def answered(self, name: CallName, answer: str) -> None:
        """Record the answer; to be called before anyone is notified of it."""
        self._settle(name, State.ANSWERED, answer)

    def failed(self, name: CallName, *, unsure: bool = False) -> None:
        """The call ended without a usable answer; ``unsure``: it was or may have been paid all the same."""
        self._settle(name, State.UNSURE if unsure else State.FAILED)

    def unreadable(self, name: CallName, answer: str) -> None:
        """The recorded answer cannot be read: the call was paid and gave nothing. It stays in the file."""
        with self._file.writing() as connection:
            connection.execute(
                "UPDATE calls SET state = ?, updated = ? WHERE key = ? AND state = 'answered' AND answer = ?",
                (State.UNSURE, self._clock(), name.key, answer),
            )

    def cut_off(self, name: CallName) -> None:
        """This process cut off the call in flight."""
        self._settle(name, State.CUT_OFF)

    def _settle(self, name: CallName, state: State, answer: str | None = None) -> None:
        # An answer counts whichever process owns the call by now; any other outcome is recorded by the owner only,
        # and once.
        owned = " AND state = 'intent' AND pid = :pid AND started = :started AND boot = :boot"
        with self._file.writing() as connection:
            connection.execute(
                "UPDATE calls SET state = :state, answer = :answer, updated = :now WHERE key = :key AND state != "
                f"'answered'{'' if answer is not None else owned}",
                {
                    "state": state,
                    "answer": answer,
                    "now": self._clock(),
                    "key": name.key,
                    "pid": self._owner.pid,
                    "started": self._owner.started,
                    "boot": self._owner.boot,
                },
            )

    def resumable(self, name: CallName, response_id: str | None) -> None:
        """The call runs at the provider under this id, even if this process dies; None: it no longer does."""
        with self._file.writing() as connection:
            connection.execute("UPDATE calls SET response_id = ? WHERE key = ?", (response_id, name.key))

    def hold(self, task: Task, reported: Sequence[bytes] = ()) -> None:
        """This process works on the task; ``reported`` are tokens of its earlier tasks whose outcome Temporal has
        received. This has to outlive the process; no call depends on it."""
        owner = self._owner
        with self._file.writing(synced=False) as connection:
            _let_go(connection, reported)
            row = (task.token, owner.pid, owner.started, owner.boot)
            connection.execute("INSERT OR REPLACE INTO tasks VALUES (?, ?, ?, ?)", row)
            names = (task.token, task.workflow_id, task.run_id, task.function_key)
            connection.execute("INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?)", names)

    def let_go(self, tokens: Sequence[bytes]) -> None:
        """Temporal has received the outcome of these tasks."""
        with self._file.writing(synced=False) as connection:
            _let_go(connection, tokens)

    def take_orphans(self) -> list[bytes]:
        """The tokens of tasks whose process is dead. This process holds them from now on; no other process gets
        them unless this one dies too."""
        with self._file.reading() as connection:
            owners = connection.execute("SELECT DISTINCT pid, started, boot FROM tasks").fetchall()
        gone = [owner for owner in (Owner(*row) for row in owners) if not owner.alive]
        if not gone:
            return []
        with self._file.writing() as connection:
            return [token for owner in gone for token in self._taken_from(connection, owner)]

    def _taken_from(self, connection: sqlite3.Connection, was: Owner) -> list[bytes]:
        """Hold the tasks of that owner from now on; their tokens."""
        now, of_owner = self._owner, "(pid, started, boot) = (?, ?, ?)"
        before = (was.pid, was.started, was.boot)
        tokens = connection.execute(f"SELECT token FROM tasks WHERE {of_owner}", before).fetchall()
        connection.execute(
            f"UPDATE tasks SET pid = ?, started = ?, boot = ? WHERE {of_owner}",
            (now.pid, now.started, now.boot, *before),
        )
        return [bytes(row["token"]) for row in tokens]

    def left(self, tokens: Sequence[bytes]) -> list[Left]:
        """What is known of the calls of these tasks."""
        now = self._clock()
        with self._file.reading() as connection:
            return [_left(connection, _task(connection, token), now) for token in tokens]

    def see_writable(self) -> None:
        """Check that a call could be recorded, by a write that is undone at once."""
        with self._file.writing() as connection:
            self._make_room(connection)
            connection.execute("INSERT OR REPLACE INTO settled VALUES ('')")
            connection.execute("DELETE FROM settled WHERE key = ''")

    def counts(self) -> Counts:
        """What the journal holds now."""
        with self._file.reading() as connection:
            rows = connection.execute(
                "SELECT state, count(*), sum(maybe_paid) FROM calls GROUP BY state"
            ).fetchall()
        found = {str(state): int(count) for state, count, _ in rows}
        return Counts(
            {state.value: found.get(state.value, 0) for state in State}, sum(int(row[2]) for row in rows)
        )

    def prune(self) -> int:
        """Delete what is too old; returns the number of deleted calls."""
        with self._file.writing() as connection:
            oldest = self._clock() - self._keep_seconds
            forgotten = connection.execute(
                "DELETE FROM calls WHERE updated < ? AND deadline < ?", (oldest, self._clock())
            ).rowcount
            for table in ("settled", "asked"):
                connection.execute(f"DELETE FROM {table} WHERE key NOT IN (SELECT key FROM calls)")
            # A process of 0.1.0 hands tasks back without deleting these rows.
            connection.execute("DELETE FROM held WHERE token NOT IN (SELECT token FROM tasks)")
            return forgotten

    def unsettled(self, most: int = 100) -> list[CallName]:
        """Once the journal is half full: its oldest calls that have ended and that their pipelines may still
        need."""
        with self._file.reading() as connection:
            if self._file.used_bytes(connection) <= self._max_bytes * _LOOKED_AT_SHARE:
                return []
            rows = connection.execute(
                "SELECT key, workflow_id, function_key FROM calls WHERE (state != 'intent' OR deadline < ?) "
                "AND key NOT IN (SELECT key FROM settled) ORDER BY updated LIMIT ?",
                (self._clock(), most),
            ).fetchall()
        return [CallName(*row) for row in rows]

    def settled(self, names: Sequence[CallName]) -> None:
        """The pipelines of these calls have received them or have ended: they are deleted when room is needed."""
        with self._file.writing() as connection:
            connection.executemany("INSERT OR IGNORE INTO settled VALUES (?)", [(name.key,) for name in names])

    def _make_room(self, connection: sqlite3.Connection) -> None:
        """Make sure that an answer will fit, by deleting the oldest calls that are no longer needed."""
        if shutil.disk_usage(self._file.path.parent).free < ANSWER_ROOM_BYTES:
            raise self._file.unavailable("the disk is full")
        if self._file.used_bytes(connection) + ANSWER_ROOM_BYTES <= self._max_bytes:
            return
        enough = min(self._max_bytes * _KEPT_SHARE, self._max_bytes - ANSWER_ROOM_BYTES)
        while self._file.used_bytes(connection) > enough:
            dropped = connection.execute(
                "DELETE FROM calls WHERE key IN (SELECT key FROM calls WHERE key IN (SELECT key FROM settled) "
                "ORDER BY updated LIMIT 10)"
            ).rowcount
            if not dropped:
                break
        if self._file.used_bytes(connection) + ANSWER_ROOM_BYTES > self._max_bytes:
            raise self._file.unavailable(
                f"it has reached its {self._max_bytes:,} bytes with answers that pipelines still need"
            )


def _outcome_of(act: Callable[[], Done]) -> Done | Exception:
    try:
        return act()
    except Exception as error:
        return error


def _note_asked(connection: sqlite3.Connection, name: CallName, asked: Asked) -> None:
    # An attempt that waits for another process's call asks repeatedly, and that must not cost a write each time.
    connection.execute(
        "INSERT INTO asked VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET run_id = excluded.run_id, "
        "about = excluded.about WHERE run_id != excluded.run_id OR about != excluded.about",
        (name.key, asked.run_id, asked.about),
    )


def _let_go(connection: sqlite3.Connection, tokens: Sequence[bytes]) -> None:
    for table in ("tasks", "held"):
        connection.executemany(f"DELETE FROM {table} WHERE token = ?", [(token,) for token in tokens])


def _task(connection: sqlite3.Connection, token: bytes) -> Task:
    """The task of that token; without names where a process of 0.1.0 held it."""
    row = connection.execute("SELECT * FROM held WHERE token = ?", (token,)).fetchone()
    return Task(token, *((row["workflow_id"], row["run_id"], row["function_key"]) if row else ("", "", "")))


def _left(connection: sqlite3.Connection, task: Task, now: float) -> Left:
    if not task.workflow_id:
        return Left(task, untold=True)
    rows = connection.execute(
        "SELECT calls.*, asked.about FROM calls JOIN asked USING (key) WHERE workflow_id = ? AND function_key = ? "
        "AND run_id = ? ORDER BY updated DESC",
        (task.workflow_id, task.function_key, task.run_id),
    ).fetchall()
    maybe_paid, response_id = 0, ""
    for row in rows:  # the latest first: an answer that cannot be used is followed by another call
        state, owner = State.read(row["state"]), Owner(row["pid"], row["started"], row["boot"])
        if state is State.ANSWERED:
            earlier = int(row["maybe_paid"])
            in_all = max(maybe_paid, earlier + 1)
            return Left(task, row["answer"], row["about"], earlier, response_id, paid_in_all=in_all)
        if state is State.INTENT and owner.alive and now < row["deadline"]:
            return Left(task, running=True)
        goes_on: str | None = row["response_id"] if state is not State.FAILED else None
        maybe_paid += int(row["maybe_paid"]) + (state is not State.FAILED and goes_on is None)
        response_id = response_id or goes_on or ""
    return Left(task, maybe_paid=maybe_paid, response_id=response_id)
