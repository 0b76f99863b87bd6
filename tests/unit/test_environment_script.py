"""What the scripts say while they install the Python environment, and what they install it with."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from fleet.config import PROJECT_ROOT
from tests.waiting import wait_for

INSTALL = """\
set -euo pipefail
source scripts/environment.sh
progress_seconds=1
with_progress pip_install "$1" -r requirements/none.txt
echo finished
"""
MAKE = """\
set -euo pipefail
source scripts/environment.sh
make_environment "$@"
"""
#: A Python whose `pip config list` says what the test gives, and whose other commands are recorded.
PYTHON = """\
while [ -e "$(dirname "$0")/../stop" ]; do sleep 0.05; done
case "$*" in
*"pip config list") cat "$(dirname "$0")/pip-config" ;;
*"pip install"*) echo "pip $*" >>"$(dirname "$0")/../said" ;;
esac
"""


def program(path: Path, script: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    path.chmod(0o755)


def installed(folder: Path, pip: str) -> subprocess.CompletedProcess[str]:
    """An installation whose pip is this shell script."""
    program(folder / "bin" / "python", pip)
    command = ["bash", "-c", INSTALL, "bash", str(folder)]
    return subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=60)


def made(
    folder: Path, lock: str, pip_config: str = "", uv_status: int = 0, checkout: Path = PROJECT_ROOT
) -> tuple[list[str], str]:
    """The commands that installed an environment, and what the script said."""
    program(folder / "bin" / "python", PYTHON)
    program(folder / "bin" / "uv", f'echo "uv $*" >>"$(dirname "$0")/../said"; exit {uv_status}')
    (folder / "bin" / "pip-config").write_text(pip_config, "utf-8")
    command = ["bash", "-c", MAKE, "bash", str(folder), lock]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and (folder / ".installed").read_text("utf-8"), done.stderr
    return (folder / "said").read_text("utf-8").splitlines(), done.stderr


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


def test_what_the_tests_need_is_installed_by_the_locked_uv_with_the_hashes_of_the_locks(tmp_path: Path) -> None:
    (uv_itself, *rest), _ = made(tmp_path, "dev")
    assert uv_itself.startswith("pip ") and "--require-hashes" in uv_itself
    assert len(rest) == 3 and all(line.startswith("uv pip install ") for line in rest)
    for line, lock in zip(rest, ("build", "dev"), strict=False):
        assert "--no-deps" in line and line.endswith(f" --require-hashes -r requirements/{lock}.txt")
    assert rest[-1].endswith(" --editable .")


@pytest.mark.parametrize("setting", ["global.index-url='https://mirror.test'", ":env:.index-url='x'"])
def test_pip_installs_where_it_has_an_index_of_its_own(tmp_path: Path, setting: str) -> None:
    commands, said = made(tmp_path, "dev", pip_config=f"global.timeout='60'\n{setting}\n")
    assert len(commands) == 3 and all(line.startswith("pip ") for line in commands)
    assert all("--require-hashes" in line for line in commands[:2]) and "uv is left out" in said


def test_pip_installs_what_uv_could_not(tmp_path: Path) -> None:
    commands, said = made(tmp_path, "dev", uv_status=2)
    assert [line.split()[0] for line in commands] == ["pip", "uv", "pip", "pip", "pip"]
    assert "uv could not install dev (see above), so pip does it" in said


def test_a_checkout_without_the_environment_of_the_tests_uses_pip(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in ("scripts", "requirements", "pyproject.toml"):
        (checkout / name).symlink_to(PROJECT_ROOT / name)
    commands, said = made(tmp_path, "base", checkout=checkout)
    assert len(commands) == 3 and all(line.startswith("pip ") for line in commands) and " uv " not in said


def test_of_two_scripts_that_need_it_at_once_one_makes_the_environment(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "python", PYTHON)
    program(tmp_path / "bin" / "uv", 'echo "uv $*" >>"$(dirname "$0")/../said"')
    (tmp_path / "bin" / "pip-config").touch()
    (tmp_path / "stop").touch()  # keeps the first from finishing before the second has begun
    begun = tmp_path / "begun"
    program(tmp_path / "path" / "flock", f'echo >>"{begun}"; exec "{shutil.which("flock")}" "$@"')
    command = ["bash", "-c", MAKE, "bash", str(tmp_path), "dev"]
    environment = os.environ | {"PATH": f"{tmp_path}/path:{os.environ['PATH']}"}
    scripts = [
        subprocess.Popen(command, cwd=PROJECT_ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        wait_for("both see that there is none", lambda: begun.exists() and begun.stat().st_size == 2)
    finally:
        (tmp_path / "stop").unlink()
    said = [script.communicate(timeout=60)[1] for script in scripts]
    assert [script.returncode for script in scripts] == [0, 0], said
    assert (tmp_path / "said").read_text("utf-8").count("--editable .") == 1
    assert sorted(text.count("Making the environment") for text in said) == [0, 1]
