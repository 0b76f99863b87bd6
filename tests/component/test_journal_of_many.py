"""One journal under many real processes at once."""

import sqlite3
import subprocess
import sys
from pathlib import Path

MANY = """
import sys, time
from pathlib import Path
from fleet.execution.journal import Journal
from fleet.execution.journal_records import Asked, CallName, Task
number = sys.argv[2]
with Journal(Path(sys.argv[1]), max_bytes=10**8, keep_seconds=3600) as journal:
    for call in range(10):
        name = CallName(f"{number}-{call}", "workflow", "draft")
        journal.hold(Task(name.key.encode(), "workflow", "run", name.key), [f"{number}-{call - 1}".encode()])
        journal.begin(name, deadline=time.time() + 600, asked=Asked("run", "about"))
        journal.answered(name, name.key)
"""


def test_fifty_processes_on_one_journal_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    processes = [subprocess.Popen([sys.executable, "-c", MANY, str(path), str(number)]) for number in range(50)]
    assert [process.wait(120) for process in processes] == [0] * 50
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute("SELECT key, state, answer FROM calls").fetchall()
        held = {token.decode() for (token,) in connection.execute("SELECT token FROM tasks").fetchall()}
    finally:
        connection.close()
    assert len(rows) == 500 and all(state == "answered" and key == answer for key, state, answer in rows)
    assert held == {f"{number}-9" for number in range(50)}, "the others were told to be reported"
