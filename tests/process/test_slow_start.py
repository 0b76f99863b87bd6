"""A process whose event loop is blocked: for long while it starts, on a busy machine, and for good later."""

import subprocess
import sys
from pathlib import Path

from fleet.config import PROJECT_ROOT
from fleet.process.liveness import EXIT_BLOCKED
from tests.waiting import LONGEST_SECONDS

BLOCKED_SECONDS = 1
PROCESS = """
import time
from fleet.process.lifecycle import run_process

async def life(settings, name, liveness, metrics):
    time.sleep(5)
    print("has started", flush=True)
    liveness.serving()
    time.sleep(3600)
    return 0

run_process("openai", life)
"""


def test_only_a_process_that_has_started_ends_when_its_loop_is_blocked(tmp_path: Path) -> None:
    environment = {
        "API_BASE_URL": "http://localhost:1",
        "FLEET_STATE_DIR": str(tmp_path / "state"),
        "FLEET_LOG_DIR": str(tmp_path / "logs"),
        "FLEET_LOOP_BLOCKED_SECONDS": str(BLOCKED_SECONDS),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROCESS],
        cwd=PROJECT_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
    )
    assert (done.returncode, done.stdout) == (EXIT_BLOCKED, "has started\n"), done.stderr
    assert "🧊 EVENT LOOP BLOCKED" in "".join(log.read_text("utf-8") for log in (tmp_path / "logs").glob("*.log"))
