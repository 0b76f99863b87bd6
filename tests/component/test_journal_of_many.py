"""One journal under many real processes at once."""

import sqlite3
import subprocess
import sys
from pathlib import Path

PROCESSES = 50
#: Forked from one that has loaded the modules, so that the processes are at the journal at once.
MANY = """
import os, sys, time
from pathlib import Path
from fleet.execution.journal import Journal
from fleet.execution.journal_records import Asked, CallName, Task

def record(path, number):
    with Journal(path, max_bytes=10**8, keep_seconds=3600) as journal:
        for call in range(10):
            name = CallName(f"{number}-{call}", "workflow", "draft")
            journal.hold(Task(name.key.encode(), "workflow", "run", name.key), [f"{number}-{call - 1}".encode()])
            journal.begin(name, deadline=time.time() + 600, asked=Asked("run", "about"))
            journal.answered(name, name.key)

forked = {}
for number in range(int(sys.argv[2])):
    pid = os.fork()
    if not pid:
        record(Path(sys.argv[1]), number)
        sys.exit()
    forked[pid] = number
failed = [number for pid, number in forked.items() if os.waitpid(pid, 0)[1]]
sys.exit(f"failed: {failed}" if failed else 0)
"""


def test_fifty_processes_on_one_journal_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    subprocess.run([sys.executable, "-c", MANY, str(path), str(PROCESSES)], check=True, timeout=180)
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute("SELECT key, state, answer FROM calls").fetchall()
        held = {token.decode() for (token,) in connection.execute("SELECT token FROM tasks").fetchall()}
    finally:
        connection.close()
    assert len(rows) == 10 * PROCESSES and all(
        state == "answered" and key == answer for key, state, answer in rows
    )
    assert held == {f"{number}-9" for number in range(PROCESSES)}, "the others were told to be reported"
