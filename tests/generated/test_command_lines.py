"""Whatever words a command is given, it does what they say or ends with one line, and never with a traceback."""

import io
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import strategies as st

from fleet.cli import main
from fleet.errors import OperationError
from tests.generated.inputs import TEXTS, check_each

#: Commands that do their work in this process and reach no server, since no fleet is up.
COMMANDS = st.sampled_from(
    [
        "run",
        "retry",
        "preview",
        "status",
        "limits",
        "pause",
        "resume",
        "scale",
        "roll",
        "doctor",
        "logs",
        "explain",
        "list",
        "show",
        "results",
        "cancel",
        "try",
        "down",
        "page",
        "health",
        "provider",
        "project",
        "up",
        "demo",
        "supervise",
        "replay",
        "top",
        "nothing",
    ]
)
WORDS = TEXTS | st.sampled_from(
    [
        "--help",
        "--version",
        "--json",
        "--project",
        "--csv",
        "--date",
        "--output",
        "--input",
        "--state",
        "--since",
        "--limit",
        "--last",
        "-n",
        "-f",
        "--",
        "--rpm",
        "--tpm",
        "--topics",
        "--model",
        "--level",
        "--provider",
        "--process",
        "--workflow",
        "--port-base",
        "--no-wait",
        "--format",
        "--failed",
        "--project=x",
        "new",
        "check",
        "show",
        "list",
        "import",
        "export",
        "test",
        "openai",
        "anthropic",
        "gemini",
        "groq",
        "seo-demo",
        "0",
        "-1",
        "5",
        "1h",
        "1e9",
        "99999999999999999999",
        "x",
        "../../etc/passwd",
        "/dev/null",
        ".",
        "2026-01-31",
        "31.1.2026",
        "csv",
        "json",
        "html",
    ]
)
#: What is done without a fleet.
DONE = [
    ("list", ["--help"]),
    ("run", ["--help"]),
    ("project", ["--help"]),
    ("provider", ["--help"]),
    ("down", []),
    ("project", ["list"]),
    ("project", ["new", "x", "--help"]),
]
LINES = st.tuples(COMMANDS, st.lists(WORDS, max_size=5)) | st.sampled_from(DONE).flatmap(
    lambda line: st.tuples(st.just(line[0]), st.lists(WORDS, max_size=1).map(lambda words: line[1] + words))
)
STATUSES = {0, 1, 2, 3, 4}


class CommandLine:
    """The command, in this process, in an empty folder."""

    def __init__(self, captured: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self.captured = captured
        self.patch = patch

    def run(self, *words: str) -> tuple[int, str, str]:
        self.patch.setattr(sys, "argv", ["fleet", *words])
        status = main._guarded()
        out, err = self.captured.readouterr()
        return status, out, err

    def check(self, line: tuple[str, list[str]]) -> bool:
        """Whether the command does what it is told."""
        command, words = line
        # What a shell cannot pass: a zero byte, or a text that is no bytes.
        words = [word.replace("\0", "").encode("utf-8", "replace").decode() for word in words]
        status, out, err = self.run(command, *words)
        assert status in STATUSES, (status, err)
        assert "Traceback" not in out + err, err
        assert status == 0 or out + err, "it ends without a word"
        complaints = [said for said in err.splitlines() if said.startswith("fleet: ")]
        assert "\x1b]" not in out + err and "\u202e" not in out + err
        if status == 2 and complaints:
            assert all("Remedy: " in said or "warning" in said for said in complaints), err
        return status == 0


@pytest.fixture
def command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    def not_here(*arguments: Any, **options: Any) -> NoReturn:
        raise OperationError("this test starts nothing. Remedy: none")

    # They would start processes, or wait for them.
    for name in ("fleet.cli.up.bring_up", "fleet.cli.supervise.supervise", "fleet.cli.demo.demo_up"):
        monkeypatch.setattr(name, not_here)
    monkeypatch.setenv("FLEET_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    return CommandLine(capsys, monkeypatch)


def test_any_words_are_done_or_refused_by_one_line(command_line: CommandLine) -> None:
    check_each("command lines", LINES, command_line.check, min_share=0.05)
    status, out, _ = command_line.run("--version")
    assert status == 0 and out.strip()
