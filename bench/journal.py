"""What the journal costs a call: ``python bench/journal.py [FOLDER]``.

A call writes three times: its task is held, and an earlier one released; its intent is recorded, then its answer;
each write is on the disk before the next. Measured in turn with the same writes to a plain file with fsync, which
is the least that they could cost on that disk.
"""

import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

from fleet.execution.journal import Journal
from fleet.execution.journal_records import Asked, CallName, Task

CALLS, ROUNDS = 300, 3
ANSWER = "x" * 3000


def journaled(journal: Journal, number: str, before: str) -> float:
    """Seconds that one call's writes take."""
    began = time.perf_counter()
    name = CallName(number, f"workflow {number}", "draft")
    journal.hold(Task(number.encode(), name.workflow_id, "run", "draft"), [before.encode()])
    journal.begin(name, deadline=time.time() + 600, asked=Asked("run", "about"))
    journal.answered(name, ANSWER)
    return time.perf_counter() - began


def synced(file: int) -> float:
    """Seconds that three appended and synced writes take."""
    began = time.perf_counter()
    for _ in range(3):
        os.write(file, ANSWER.encode())
        os.fsync(file)
    return time.perf_counter() - began


def main() -> None:
    """Interleaved rounds; prints medians and the 95th percentile, in milliseconds."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        file = os.open(Path(folder, "plain"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        times: dict[str, list[float]] = {"journal": [], "three synced writes": []}
        with Journal(Path(folder, "journal.db"), max_bytes=10**9, keep_seconds=3600) as journal:
            for round_number in range(ROUNDS):
                for number in range(CALLS):
                    times["journal"].append(
                        journaled(journal, f"{round_number}-{number}", f"{round_number}-{number - 1}") * 1000
                    )
                    times["three synced writes"].append(synced(file) * 1000)
        os.close(file)
    for name, found in times.items():
        print(f"{name:20} p50 {median(found):.2f} ms   p95 {quantiles(found, n=20)[-1]:.2f} ms")


if __name__ == "__main__":
    main()
