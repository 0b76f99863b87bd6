"""What becomes of a killed test run's processes."""

import subprocess
import sys
from pathlib import Path

from tests.waiting import wait_for

KILLED = """
import os, signal, subprocess, sys
from pathlib import Path
from tests.end_with_parent import swept_if_killed

folder, null = Path(sys.argv[1]), subprocess.DEVNULL
with swept_if_killed(folder, after_seconds=0):
    for command, options in (
        (["sleep", "600"], {"cwd": folder}),
        (["sleep", "600"], {"env": {"STATE": f"{folder}/state"}}),
        ([sys.executable, "-c", "import time; time.sleep(600)", folder], {}),
    ):
        print(subprocess.Popen(command, stdout=null, stderr=null, **options).pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_leaves_no_process_that_has_to_do_with_its_folder(tmp_path: Path) -> None:
    other = subprocess.Popen(["sleep", "600"], cwd=tmp_path.parent)
    try:
        (tmp_path / "run").mkdir()
        root = Path(__file__).parents[2]
        command = [sys.executable, "-c", KILLED, str(tmp_path / "run")]
        started = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False).stdout.split()
        assert len(started) == 3
        wait_for("they are gone", lambda: not any(Path("/proc", pid).exists() for pid in started))
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
