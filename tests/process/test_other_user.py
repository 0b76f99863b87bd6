"""``scripts/other_user.sh``: what root runs as another user gets no hold of root's terminal."""

import os
import pty
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from fleet.config import PROJECT_ROOT
from tests.waiting import LONGEST_SECONDS, wait_for

STEP_SECONDS = LONGEST_SECONDS
LEGACY_TIOCSTI = Path("/proc/sys/dev/tty/legacy_tiocsti")
#: Pushes a line into its terminal, as if it had been typed there: the next reader of the terminal takes it.
PUSH = """
import fcntl, os, sys, termios
for name in ("/dev/tty", 0, 1, 2):
    try:
        tty = os.open(name, os.O_RDWR) if isinstance(name, str) else name
        for byte in b"typed\\n":
            fcntl.ioctl(tty, termios.TIOCSTI, bytes([byte]))
    except OSError:
        pass
print("pushed by", os.getuid())
"""
READ = 'while IFS= read -r -t 1 line </dev/tty; do echo "root reads $line"; done; echo the end'


def at_a_terminal(script: str) -> str:
    """What a script of bash says whose terminal is one, with :file:`scripts/other_user.sh`."""
    child, terminal = pty.fork()
    if not child:
        os.chdir("/")
        os.execvp("bash", ["bash", "-c", f"source {PROJECT_ROOT}/scripts/other_user.sh; {script}", "bash", PUSH])
    said = b""
    try:
        while data := os.read(terminal, 4096):
            said += data
    except OSError:  # all have closed it
        pass
    os.waitpid(child, 0)
    os.close(terminal)
    return said.decode()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("redirected", ["", " | cat", " 2>/dev/null", " </dev/null"])
def test_nothing_is_typed_into_roots_terminal(redirected: str) -> None:
    python = shutil.which("python3", path="/usr/bin:/bin")
    if python is None:
        pytest.skip("needs a Python that every user can run")
    push = f'{python} -c "$1"{redirected}'
    # Newer kernels can be set to let nobody push input into a terminal (dev.tty.legacy_tiocsti).
    if not LEGACY_TIOCSTI.exists() or LEGACY_TIOCSTI.read_text("ascii").strip() == "1":
        assert "root reads typed" in at_a_terminal(f"runuser -u nobody -- {push}; {READ}"), "the threat is real"
    said = at_a_terminal(f"(enter_as nobody {push}); {READ}")
    assert "pushed by 65534" in said and "root reads" not in said and "the end" in said, said


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_status_streams_and_signals_are_passed_on(tmp_path: Path) -> None:
    script = f"source {PROJECT_ROOT}/scripts/other_user.sh; cd /; "
    said = subprocess.run(
        ["bash", "-c", script + "run_as nobody sh -c 'cat; id -un >&2; exit 7'"],
        input="given",
        capture_output=True,
        text=True,
        timeout=STEP_SECONDS,
        check=False,
    )
    assert (said.returncode, said.stdout, said.stderr) == (7, "given", "nobody\n")
    said_so = tmp_path / "said"
    command = "run_as nobody sh -c 'trap \"echo heard; exit 130\" INT; echo begun; while :; do sleep 0.1; done'"
    with said_so.open("w") as out:
        process = subprocess.Popen(["bash", "-c", script + command], stdout=out)
        try:
            wait_for("it has begun", lambda: "begun" in said_so.read_text("utf-8"))
            process.send_signal(signal.SIGINT)
            assert process.wait(STEP_SECONDS) == 130
        finally:
            process.terminate()  # it passes that on
            process.wait(STEP_SECONDS)
    assert said_so.read_text("utf-8").split() == ["begun", "heard"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_signal_is_passed_on_as_soon_as_the_command_has_begun() -> None:
    slowly = "exec 9<> <(:); set -T; trap 'read -rt 0.3 -u 9' DEBUG; "
    at_once = "run_as root sh -c 'trap \"exit 130\" INT; kill -INT $1; sleep 5 & wait' sh $$"
    script = f"source {PROJECT_ROOT}/scripts/other_user.sh; {slowly}{at_once}"
    assert subprocess.run(["bash", "-c", script], timeout=STEP_SECONDS, check=False).returncode == 130
