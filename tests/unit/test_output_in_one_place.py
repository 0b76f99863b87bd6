"""No module of the fleet prints past the function that makes text harmless."""

import subprocess
import sys

import pytest

from fleet.config import PROJECT_ROOT

PAST_IT = {
    "print": 'print("x")',
    "typer": 'import typer\n\ntyper.echo("x")',
    "stdout": 'import sys\n\nsys.stdout.write("x")',
    "stderr": 'import sys\n\nsys.stderr.write("x")',
    "rich": 'from rich.console import Console\n\nConsole().print("x")',
}


@pytest.mark.parametrize("code", PAST_IT.values(), ids=PAST_IT.keys())
def test_the_check_refuses_code_that_prints_past_it(code: str) -> None:
    ruff = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--select",
        "T20,TID251",
        "--stdin-filename",
        "fleet/cli/top.py",
    ]
    done = subprocess.run([*ruff, "-"], input=code + "\n", capture_output=True, text=True, cwd=PROJECT_ROOT)
    assert done.returncode == 1 and ("T201" in done.stdout or "TID251" in done.stdout)


def test_the_exceptions_are_those_that_are_known() -> None:
    marked = subprocess.run(
        ["git", "grep", "-lE", "noqa: (T20|TID251)", "--", "fleet", "workers"],
        capture_output=True,
        text=True,
        cwd=PROJECT_ROOT,
    )
    assert marked.stdout.split() == []
