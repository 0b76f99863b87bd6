"""``scripts/soak.sh logs [--lines N]``: six processes log, their files are rotated, and the merging program is
killed again and again. Every line must stand in the merged log once, each process's in their order.

The last line is one JSON object; the exit status is 1 if a line was lost, doubled or out of order.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from fleet.control.logs.merged_log import MERGED_LOG
from tests.waiting import wait_for

PROCESSES = ("openai_00", "openai_01", "anthropic_00", "gemini_00", "pipeline_00", "assistants_00")
LINES, A_SECOND, ROTATION_MB, MIN_KILLS = 33_400, 1_500, 0.5, 3
WRITER = Path(__file__).with_name("log_writer.py")
_LINE = re.compile(r"line (\d+) of (\w+)")


@dataclass(frozen=True)
class Merged:
    """What came of it: ``lines`` that were written, those ``missing``, ``doubled`` and out of order in the merged
    log, how often the merging program was killed, and how many files the first writer's log was rotated into."""

    lines: int
    missing: int
    doubled: int
    unordered: int
    kills: int
    rotated: int

    @property
    def well(self) -> bool:
        """Whether every line is there once, in order."""
        return not (self.missing or self.doubled or self.unordered)


def merged_lines(logs: Path) -> list[str]:
    """All lines of the merged log and its rotated files, the oldest first."""
    files = sorted(
        logs.glob(f"{MERGED_LOG}*"), key=lambda path: -int(path.suffix[1:]) if path.suffix[1:].isdigit() else 0
    )
    return [line for path in files for line in path.read_text("utf-8").splitlines()]


def merge_under_kills(folder: Path, lines: int, a_second: int, rotation_mb: float) -> Merged:
    """Have each process write so many lines at that rate, into files that are rotated at that size; more lines
    while the merging program has not been killed three times.

    Raises:
        AssertionError: the merging program did not get on in time.
    """
    environment = os.environ | {
        "API_BASE_URL": "http://localhost:8000",
        "FLEET_STATE_DIR": str(folder / "state"),
        "FLEET_LOG_DIR": str(folder / "logs"),
        "FLEET_LOG_ROTATION_MB": str(rotation_mb),
        "FLEET_LOG_BACKUPS": "100",  # a merging program that is killed and slow to start is to lose nothing
    }
    (folder / "state").mkdir()
    enough = folder / "enough"
    merger = _begin_merger(environment)
    writers = [
        subprocess.Popen(
            [sys.executable, str(WRITER), name, str(lines), str(a_second), str(enough)],
            env=environment,
            stdout=subprocess.PIPE,
        )
        for name in PROCESSES
    ]
    kills = 0
    try:
        while not _ended(writers):
            # Killed in the midst of its work, each time that it has committed some.
            before = _committed(folder)
            wait_for("it merges", lambda before=before: _committed(folder) != before or _ended(writers), 60)
            time.sleep(0.3 * (kills % 4))
            merger.kill()
            merger.wait()
            merger = _begin_merger(environment)
            kills += 1
            if kills == MIN_KILLS:
                enough.touch()
        total = sum(int(writer.communicate()[0]) for writer in writers)
        wait_for("all is merged", lambda: _count(folder / "logs") >= total, 120)
    finally:
        merger.send_signal(signal.SIGTERM)
        merger.wait(30)
        for writer in writers:
            writer.kill()
            writer.wait()
    return _judged(folder / "logs", total, kills)


def _judged(logs: Path, total: int, kills: int) -> Merged:
    found = [match.groups() for line in merged_lines(logs) if (match := _LINE.search(line))]
    seen = Counter(found)
    unordered = 0
    for name in PROCESSES:
        numbers = [int(number) for number, process in found if process == name]
        unordered += sum(later < earlier for earlier, later in pairwise(numbers))
    doubled = sum(count - 1 for count in seen.values())
    rotated = len(list(logs.glob(f"{PROCESSES[0]}.*.log")))
    return Merged(total, total - len(seen), doubled, unordered, kills, rotated)


def _begin_merger(environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    """The merging program, whose own file is large enough for all."""
    own = environment | {"FLEET_LOG_ROTATION_MB": "8", "FLEET_LOG_BACKUPS": "9"}
    return subprocess.Popen([sys.executable, "-P", "-m", "workers.logs"], env=own)


def _committed(folder: Path) -> str:
    path = folder / "state" / "merged.json"
    return path.read_text("utf-8") if path.exists() else ""


def _ended(writers: "list[subprocess.Popen[bytes]]") -> bool:
    return all(writer.poll() is not None for writer in writers)


def _count(logs: Path) -> int:
    return sum(path.read_bytes().count(b" of ") for path in logs.glob(f"{MERGED_LOG}*"))


def main() -> None:
    """Run it, and leave with what came of it."""
    parser = argparse.ArgumentParser(
        prog="scripts/soak.sh logs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=LINES, help="of each of the six processes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fleet-logs-") as folder:
        found = merge_under_kills(Path(folder), options.lines, A_SECOND, ROTATION_MB)
    print(json.dumps(asdict(found)), flush=True)
    sys.exit(0 if found.well else 1)


if __name__ == "__main__":
    main()
