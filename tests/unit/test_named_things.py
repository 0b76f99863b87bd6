"""What an argument of a command names and there is not: found out at once, with those that there are."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet.cli.main import app
from fleet.errors import OperationError


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("API_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("FLEET_STATE_DIR", str(tmp_path))
    (tmp_path / "logs").mkdir()
    for process in ("openai_00", "retired_00"):
        (tmp_path / "logs" / f"{process}.log").touch()


UNKNOWN_PROVIDER = (
    "there is no provider 'opnai' (did you mean openai?). Remedy: name one of anthropic, gemini, openai"
)
COMMANDS = {
    "pause": (["pause", "opnai"], UNKNOWN_PROVIDER),
    "resume": (["resume", "opnai"], UNKNOWN_PROVIDER),
    "limits": (["limits", "opnai"], UNKNOWN_PROVIDER),
    "limits that are set": (["limits", "opnai", "--rpm", "5"], UNKNOWN_PROVIDER),
    "logs of a provider": (["logs", "--provider", "opnai"], UNKNOWN_PROVIDER),
    "logs of a process": (
        ["logs", "--process", "openai_0"],
        "(did you mean openai_00?). Remedy: name one of openai_00",
    ),
}


@pytest.mark.parametrize(("command", "said"), COMMANDS.values(), ids=COMMANDS)
def test_a_name_that_there_is_not_is_answered_with_those_that_there_are(command: list[str], said: str) -> None:
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, OperationError) and said in str(done.exception)


@pytest.mark.parametrize("provider", ["claude", "anthropic", "retired"])
def test_an_alias_and_a_provider_that_is_no_longer_configured_have_logs(provider: str) -> None:
    assert CliRunner().invoke(app, ["logs", "--provider", provider]).exit_code == 0
