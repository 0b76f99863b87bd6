"""What the scripts say while they install the Python environment."""

import subprocess
from pathlib import Path

import pytest

from fleet.config import PROJECT_ROOT

INSTALL = """\
set -euo pipefail
source scripts/environment.sh
progress_seconds=1
install_into "$1" -r requirements/none.txt
echo finished
"""


def installed(folder: Path, pip: str) -> subprocess.CompletedProcess[str]:
    """An installation whose pip is this shell script."""
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f"#!/bin/sh\n{pip}\n", "utf-8")
    python.chmod(0o755)
    command = ["bash", "-c", INSTALL, "bash", str(folder)]
    return subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=60)


def test_a_long_installation_says_that_it_goes_on(tmp_path: Path) -> None:
    done = installed(tmp_path, "sleep 3.5")
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (0, "finished\n")
    assert len(lines) >= 2 and all(line.startswith(f"installing into {tmp_path}: ") for line in lines), lines
    assert all(line.endswith(" s ...") for line in lines)


@pytest.mark.parametrize("status", [0, 3])
def test_a_short_one_says_nothing_and_its_exit_status_is_that_of_pip(tmp_path: Path, status: int) -> None:
    done = installed(tmp_path, f"exit {status}")
    assert (done.returncode, done.stdout, done.stderr) == (status, "finished\n" if status == 0 else "", "")
