"""Options, the environment that every test starts from, and what a failed or hung test tells of itself."""

import faulthandler
import gc
import os
import time
from collections.abc import Generator, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

import hypothesis
import pytest

from tests import evidence
from tests.end_with_parent import swept_if_killed
from tests.fleet import SHARED_FLEETS, _fleet_is_up_while_it_is_used, fleet, idle, shared_fleet, stack
from tests.generated import inputs

__all__ = ["_fleet_is_up_while_it_is_used", "fleet", "idle", "shared_fleet", "stack"]
OURS = ("FLEET_", "TEMPORAL_", "API_BASE_URL", "LOG_LEVEL")
#: Where a run leaves its JUnit file, each test's duration and the stacks of a hung test.
REPORTS = Path(__file__).parents[1] / "test-reports"
#: Files with a fleet in common, and those with the servers of ``stack``: one process runs each group.
_ON_FLEETS = [shared.files for shared in SHARED_FLEETS]
_ON_STACK = ("tests/process/test_secured_fleet.py", "tests/process/test_projects.py")
_GROUPS = {file: files[0] for files in (*_ON_FLEETS, _ON_STACK) for file in files}
#: The order of the files that take longest; all others come after them.
LONGEST_FILES = (
    *chain(*_ON_FLEETS),
    "tests/process/test_deployment.py",
    "tests/process/test_two_real_machines.py",
    "tests/process/test_systemd.py",
    "tests/process/test_docker.py",
    "tests/process/test_first_hour.py",
    "tests/faults/test_black_hole.py",
    "tests/faults/test_two_machines.py",
    "tests/monitoring/test_alerts.py",
    "tests/faults/test_healing.py",
    "tests/monitoring/test_page.py",
    "tests/faults/test_overview.py",
    *_ON_STACK,
    "tests/process/test_commands.py",
    "tests/unit/test_budget_law.py",
    "tests/workflow/test_fallback.py",
    "tests/workflow/test_approximate.py",
    "tests/workflow/test_budget_workflow.py",
    "tests/component/test_control_description.py",
)
_STACKS_BEFORE_TIMEOUT_SECONDS = 3.0
#: How long a failed test may take to clean up, its file's fleets included. Its timeout may be used up already, and
#: a run that hangs reports nothing.
_CLEAN_UP_SECONDS = 300.0

# How long an example takes is the machine's affair.
hypothesis.settings.register_profile("fleet", deadline=None)
hypothesis.settings.load_profile("fleet")

_began = pytest.StashKey[float]()
_stacks = pytest.StashKey[IO[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--forbid-skips", action="store_true", help="a skipped test fails the run")
    parser.addoption("--reports", type=Path, default=REPORTS, help="folder of durations and stacks")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "debian: needs Debian packages that .ci/run installs; machines need root too"
    )
    inputs.whole = config.getoption("--forbid-skips")
    folder: Path = config.getoption("--reports")
    folder.mkdir(parents=True, exist_ok=True)
    # A personal temporal.toml reaches neither a fleet nor the `temporal` command.
    os.environ["XDG_CONFIG_HOME"] = str(folder.absolute() / "no-configuration")
    path = folder / f"stacks-{os.getpid()}.txt"
    config.stash[_stacks] = path.open("w+", encoding="utf-8")


def pytest_unconfigure(config: pytest.Config) -> None:
    stacks = config.stash[_stacks]
    stacks.close()
    Path(stacks.name).unlink()  # the reports have it; a run that is killed leaves it behind


def _is_one_of_several(config: pytest.Config) -> bool:
    """Whether this process shares the files with others (pytest-xdist); the main one reports for all."""
    return hasattr(config, "workerinput")


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Import all tests without looking for garbage: there is none, and the looks took two fifths of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()  # the tests stay until the end


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the files, the longest goes first, so that none is left with it at the end."""
    unlisted = {_file(item.nodeid) for item in items if _uses_shared_fleet(item)} - set(chain(*_ON_FLEETS))
    if unlisted:
        raise pytest.UsageError(f"use the shared fleet: {sorted(unlisted)}. Remedy: add them to SHARED_FLEETS")
    if _is_one_of_several(config):
        rank = {file: number for number, file in enumerate(LONGEST_FILES)}
        items.sort(key=lambda item: rank.get(_file(item.nodeid), len(rank)))


def _file(node_id: str) -> str:
    return node_id.partition("::")[0]


def _uses_shared_fleet(item: pytest.Item) -> bool:
    """Whether its ``fleet`` is the shared one, and not one of its file's own."""
    fixtures = getattr(item, "_fixtureinfo").name2fixturedefs.get("fleet")  # noqa: B009
    return bool(fixtures) and fixtures[-1].func.__module__ == fleet.__module__


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Give each process a file at a time, or a group."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _GROUPS.get(_file(nodeid), _file(nodeid))

    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> Generator[None, object, object]:
    """Have all stacks written down just before the timeout ends a hung test."""
    file = item.config.stash[_stacks]
    file.write(f"--- {item.nodeid}\n")
    file.flush()
    before_timeout = max(settings.timeout - _STACKS_BEFORE_TIMEOUT_SECONDS, settings.timeout / 2)
    faulthandler.dump_traceback_later(before_timeout, file=file)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_timeout_cancel_timer(item: pytest.Item) -> Generator[None, object, object]:
    faulthandler.cancel_dump_traceback_later()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    item.stash[_began] = time.time()
    file = item.config.stash[_stacks]
    file.truncate(0)
    file.seek(0)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test's report has what its fleet was doing, and where a hung one stood."""
    report = yield
    if report.failed:
        file = item.config.stash[_stacks]
        file.seek(0)
        if "Thread 0x" in (stacks := file.read()):
            report.sections.append(("all stacks before the timeout", stacks))
        if call.when == "call":
            faulthandler.dump_traceback_later(_CLEAN_UP_SECONDS, file=file, exit=True)
        found = evidence.gather(getattr(item, "funcargs", {}).values(), item.stash[_began])
        report.sections += [(f"{title} ({item.name})", text) for title, text in found]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    config = terminalreporter.config
    if _is_one_of_several(config):
        return
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped and config.getoption("--forbid-skips"):
        terminalreporter.write_line(f"{len(skipped)} skipped, and skips are forbidden here", red=True)
    reports = [
        report for kind in terminalreporter.stats.values() for report in kind if hasattr(report, "duration")
    ]
    rows = sorted(((report.duration, report.when, report.nodeid) for report in reports), reverse=True)
    text = "".join(f"{seconds:.2f}\t{when}\t{name}\n" for seconds, when, name in rows)
    (config.getoption("--reports") / "durations.tsv").write_text(text, "utf-8")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if _is_one_of_several(session.config):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    forbidden = session.config.getoption("--forbid-skips") and reporter.stats.get("skipped")
    if forbidden and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Of this process's part of the run, also if it is killed."""
    with swept_if_killed(tmp_path_factory.getbasetemp()):
        yield


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No setting of the person who runs the tests reaches them: neither environment nor .env."""
    for name in list(os.environ):
        if name.upper().startswith(OURS):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    yield
