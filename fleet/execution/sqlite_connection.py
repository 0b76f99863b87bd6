"""The SQLite file of a journal: opened when it is first used; each write is on the disk before it counts."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleet.errors import JournalUnavailable

# SQLite's lock is not fair: among many processes on a slow disk, one may wait for a long time.
_BUSY_SECONDS = 30.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS place (id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS machine (id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY, workflow_id TEXT NOT NULL, function_key TEXT NOT NULL, state TEXT NOT NULL,
    pid INTEGER NOT NULL, started INTEGER NOT NULL, boot TEXT NOT NULL, deadline REAL NOT NULL,
    response_id TEXT, answer TEXT, maybe_paid INTEGER NOT NULL, updated REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS calls_updated ON calls (updated);
CREATE INDEX IF NOT EXISTS calls_pipeline ON calls (workflow_id, function_key);
CREATE TABLE IF NOT EXISTS asked (key TEXT PRIMARY KEY, run_id TEXT NOT NULL, about TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS settled (key TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS tasks (
    token BLOB PRIMARY KEY, pid INTEGER NOT NULL, started INTEGER NOT NULL, boot TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS held (
    token BLOB PRIMARY KEY, workflow_id TEXT NOT NULL, run_id TEXT NOT NULL, function_key TEXT NOT NULL
);
"""


class JournalFile:
    """One file, shared by processes and threads. ``machine`` is the id of this machine, empty where it does not
    matter who reads."""

    def __init__(self, path: Path, machine: str = "") -> None:
        self.path = path
        self._machine = machine
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._writes = False
        self._synced = True

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def used_bytes(self, connection: sqlite3.Connection) -> int:
        """How many bytes of the file are in use."""
        size, pages, free = (
            int(connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_size", "page_count", "freelist_count")
        )
        return size * (pages - free)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for queries.

        Raises:
            JournalUnavailable: the file cannot be used. So does :meth:`writing`.
        """
        with self._lock:
            try:
                yield self._opened()
            except (sqlite3.Error, OSError) as error:
                raise self.unavailable(str(error)) from error

    @contextmanager
    def writing(self, *, synced: bool = True) -> Iterator[sqlite3.Connection]:
        """One exclusive transaction; on the disk when the block ends. If not ``synced``, it outlives the process
        and is on the disk with the next one that is; a machine that loses power may lose it.

        Within such a block, it is a part of that transaction: an exception undoes this part alone.
        """
        with self.reading() as connection:
            if self._writes:
                with _part(connection):
                    yield connection
                return
            if synced is not self._synced:
                # Source: sqlite.org/pragma.html#pragma_synchronous, for files in WAL mode.
                connection.execute(f"PRAGMA synchronous={'FULL' if synced else 'NORMAL'}")
                self._synced = synced
            connection.execute("BEGIN IMMEDIATE")
            self._writes = True
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            finally:
                self._writes = False

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            connection = sqlite3.connect(
                self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                connection.row_factory = sqlite3.Row
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.executescript(_SCHEMA)
                self._see_machine(connection)
            except BaseException:
                connection.close()
                raise
            self._connection, self._synced = connection, True
        return self._connection

    def _see_machine(self, connection: sqlite3.Connection) -> None:
        """A journal that was copied from another machine gets a new name and drops the tasks in it: the processes
        that work on them may still run on that machine."""
        if not self._machine:
            return
        known = connection.execute("SELECT id FROM machine").fetchone()
        if known is not None and known["id"] == self._machine:
            return
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            known = connection.execute("SELECT id FROM machine").fetchone()
            if known is None:
                connection.execute("INSERT INTO machine VALUES (?)", (self._machine,))
            elif known["id"] != self._machine:
                connection.execute("DELETE FROM tasks")
                connection.execute("DELETE FROM held")
                connection.execute("DELETE FROM place")
                connection.execute("UPDATE machine SET id = ?", (self._machine,))

    def unavailable(self, what: str) -> JournalUnavailable:
        """The error for a journal that cannot be written."""
        return JournalUnavailable(
            f"the journal {self.path} cannot be written: {what}. No call is sent without it. Remedy: make room, "
            "raise FLEET_JOURNAL_MAX_MB, correct the folder's owner, or move a damaged file away"
        )


@contextmanager
def _part(connection: sqlite3.Connection) -> Iterator[None]:
    """A part of the transaction that is open."""
    if not connection.in_transaction:  # SQLite itself has undone all of it; a savepoint would begin another one
        raise sqlite3.OperationalError("the transaction was rolled back")
    connection.execute("SAVEPOINT part")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK TO part")
        connection.execute("RELEASE part")
        raise
    connection.execute("RELEASE part")
