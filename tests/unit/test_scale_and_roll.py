"""What ``fleet scale`` and ``fleet roll`` show while they wait."""

import pytest

from fleet.cli.console import Console
from fleet.cli.scale_and_roll import waits_on
from fleet.control.supervision.operation_waits import Wait

WAIT = Wait("serve", 1.0, ["openai_01"])


def test_a_terminal_shows_what_is_waited_for_below_what_was_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    console = Console()
    with waits_on(console) as show:
        assert show is not None
        console.say("starting openai_01 ...")
        show([WAIT], 4.2)
        show([], 5.0)
    said = capsys.readouterr().out
    assert said.index("starting openai_01 ...") < said.index("waiting for openai_01 to serve: 3 s")


def test_a_file_gets_no_live_line(capsys: pytest.CaptureFixture[str]) -> None:
    with waits_on(Console()) as show:
        assert show is None
    assert capsys.readouterr().out == ""
