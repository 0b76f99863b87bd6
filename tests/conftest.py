"""Options, and the environment that every test starts from."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet import fleet, idle

__all__ = ["fleet", "idle"]
OURS = ("FLEET_", "TEMPORAL_", "API_BASE_URL", "LOG_LEVEL")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--forbid-skips", action="store_true", help="a skipped test fails the run")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "debian: needs Debian packages that .ci/run installs")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped and terminalreporter.config.getoption("--forbid-skips"):
        terminalreporter.write_line(f"{len(skipped)} skipped, and skips are forbidden here", red=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    forbidden = session.config.getoption("--forbid-skips") and reporter.stats.get("skipped")
    if forbidden and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No setting of the person who runs the tests reaches them: neither environment nor .env."""
    for name in list(os.environ):
        if name.upper().startswith(OURS):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    yield
