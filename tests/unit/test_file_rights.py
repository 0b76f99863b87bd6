"""No file that a process of this project creates can be read by other users of the machine."""

import subprocess
import sys
from pathlib import Path

import pytest

#: A program of the project, up to the point where it writes its first file.
STARTS = {
    "a command": "import fleet.cli.main as it; it._guarded = lambda: open(PATH, 'w').close() or 0; it.main()",
    "a worker": "import fleet.process.lifecycle as it\n"
    "it.load_settings = lambda **options: open(PATH, 'w').close()\n"
    "it.run_process('pipeline', None)",
}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
@pytest.mark.parametrize(("umask", "mode"), [(0o000, 0o640), (0o022, 0o640), (0o077, 0o600)])
def test_the_first_file_is_created_without_rights_for_others(
    start: str, umask: int, mode: int, tmp_path: Path
) -> None:
    code = start.replace("PATH", repr(str(tmp_path / "first")))
    subprocess.run([sys.executable, "-c", code], umask=umask, capture_output=True, timeout=60)
    assert (tmp_path / "first").stat().st_mode & 0o777 == mode
