"""The doctor where he is needed: with settings that are wrong and everything away."""

import json
import socket
import sqlite3
import threading
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from temporalio.api.namespace.v1 import NamespaceInfo
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, DescribeNamespaceResponse
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode
from typer.testing import CliRunner

from fleet.cli import operator_commands as operating
from fleet.cli.find_fleet import find_anyhow
from fleet.config import PROJECT_ROOT, Settings, load_settings
from fleet.control.health.doctor import Check, examine
from fleet.control.health.doctor import settings as given
from fleet.control.health.doctor.control import control_checks
from fleet.control.health.doctor.exposures import exposure_checks
from fleet.control.health.doctor.host import machine_checks
from fleet.control.health.doctor.pipelines import Failed, failures_among, verdict
from fleet.control.health.doctor.processes import process_checks
from fleet.control.health.doctor.projects import project_checks, unlike_projects
from fleet.control.health.doctor.servers import compared_clock, limits_settable, namespace_check
from fleet.control.health.status import FleetStatus, QueueStatus, Reachable
from fleet.control.machines.other_machines import OtherMachine, Told
from fleet.control.supervision.supervisord_client import ProcessStatus
from fleet.control.web.credentials import PageCredentials
from fleet.execution.backend_client import ToldProject
from fleet.process.machine_id import machine_id

PROVIDERS = ("anthropic", "gemini", "openai")
EVERY_LINE = {
    "fleet",
    "environment",
    "Python",
    "packages",
    "state folder",
    "logs",
    "open files",
    "supervisord.conf",
    "supervisord",
    "processes",
    "Temporal",
    "namespace",
    "pipelines",
    "Backend API and its database",
    "clock",
    "control",
    "page",
    *(f"pollers of {queue}" for queue in ("pipeline", "control", "assistants")),
    *(
        f"{what}{name}"
        for name in PROVIDERS
        for what in ("journal of ", "API key of ", "queue llm-", "pollers of llm-")
    ),
}


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> int:
    """A port of this machine on which nobody answers; the settings name it, and an empty state folder."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
    monkeypatch.setenv("TEMPORAL_HOST", f"127.0.0.1:{port}")
    monkeypatch.setenv("FLEET_STATE_DIR", str(tmp_path / "state"))
    return port


def by_name(checks: Iterable[Check]) -> dict[str, Check]:
    return {check.what: check for check in checks}


def test_without_any_setting_every_line_is_there_and_the_exit_status_is_1(nobody: int, tmp_path: Path) -> None:
    done = CliRunner().invoke(operating.app, ["doctor", "--json"])
    assert done.exit_code == 1 and done.exception.__class__ is SystemExit
    answer = json.loads(done.stdout.splitlines()[-1])
    checks = {check["what"]: check for check in answer["checks"]}
    assert answer["ok"] is False and checks.keys() == EVERY_LINE
    assert all(check["remedy"] for check in checks.values() if not check["ok"])
    assert [what for what, check in checks.items() if not check["ok"] and not check["because"]] == ["fleet"]
    assert "API_BASE_URL není nastavena" in checks["environment"]["says"]
    assert "API_BASE_URL is not known" in checks["Backend API and its database"]["says"]
    assert "Temporal server connection failed" in checks["Temporal"]["says"]
    assert not (tmp_path / "state").exists(), "he changes nothing"


WRONG = {
    "a number": ({"FLEET_MAX_ATTEMPTS": "many"}, "FLEET_MAX_ATTEMPTS='many'"),
    "an address of Temporal": ({"TEMPORAL_HOST": "nowhere"}, "TEMPORAL_HOST='nowhere'"),
    "a provider's limit": ({"FLEET_PROVIDERS__OPENAI__RPM": "-1"}, "FLEET_PROVIDERS__OPENAI__RPM"),
    "a provider of an unknown kind": (
        {"FLEET_PROVIDERS__GROQ__BASE_URL": "http://localhost", "FLEET_PROVIDERS__GROQ__KIND": "acme"},
        "FLEET_PROVIDERS__GROQ__KIND='acme'",
    ),
    "a provider that lacks its address": ({"FLEET_PROVIDERS__GROQ__KIND": "openai"}, "needs a base_url"),
    "a section that is no JSON": ({"FLEET_PROVIDERS": "{"}, "providers"),
    "two that contradict each other": ({"FLEET_HEARTBEAT_TIMEOUT_SECONDS": "1"}, "at most half of"),
}


@pytest.mark.parametrize(("environment", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_setting_is_told_and_all_the_others_hold(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, environment: dict[str, str], said: str
) -> None:
    right = {"API_BASE_URL": "https://backend:1", "FLEET_CONTROL_PORT": "8123", "FLEET_STATE_DIR": str(tmp_path)}
    for name, value in (right | environment).items():
        monkeypatch.setenv(name, value)
    settings, wrong = find_anyhow()
    assert len(wrong) == 1 and said in wrong[0]
    assert (settings.api_base_url, settings.control_port) == ("https://backend:1", 8123)
    assert settings.state_dir == tmp_path and {"openai", "anthropic", "gemini"} <= settings.providers.keys()
    assert "nowhere" not in settings.temporal_host and settings.max_attempts == 3


def test_what_the_files_say_holds_beside_a_wrong_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLEET_CONFIG", str(tmp_path))
    (tmp_path / ".env").write_text("API_BASE_URL=https://from-env:1\n", "utf-8")
    (tmp_path / "fleet.toml").write_text(
        'temporal_host = "from-toml:7233"\n[providers.openai]\nrpm = 60\n', "utf-8"
    )
    monkeypatch.setenv("FLEET_PROVIDERS__OPENAI__TPM", "none")
    settings, wrong = find_anyhow()
    assert len(wrong) == 1 and "FLEET_PROVIDERS__OPENAI__TPM" in wrong[0]
    assert (settings.api_base_url, settings.temporal_host) == ("https://from-env:1", "from-toml:7233")
    assert (settings.providers["openai"].rpm, settings.providers["openai"].tpm) == (60, None)


@pytest.mark.parametrize("file", [".env", "fleet.toml"])
def test_a_file_that_cannot_be_read_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str) -> None:
    monkeypatch.setenv("API_BASE_URL", "https://backend:1")
    (tmp_path / file).write_bytes(b"\xff\xfe = [")
    settings, wrong = find_anyhow()
    assert len(wrong) == 1 and settings.api_base_url == "https://backend:1"


def test_a_token_that_is_too_short_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_BASE_URL", "https://backend:1")
    monkeypatch.setenv("FLEET_CONTROL_TOKEN", "secret-thing")
    _, wrong = find_anyhow()
    assert "FLEET_CONTROL_TOKEN" in wrong[0] and "secret-thing" not in wrong[0]


def test_a_damaged_record_of_a_fleet_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("API_BASE_URL", "https://backend:1")
    monkeypatch.setenv("FLEET_STATE_DIR", str(tmp_path))
    (tmp_path / "fleet.json").write_text("{", "utf-8")
    _, wrong = find_anyhow()
    assert len(wrong) == 1 and "fleet.json cannot be read" in wrong[0]


async def test_with_all_servers_away_each_says_so_itself(nobody: int) -> None:
    checks = by_name(await examine(load_settings(API_BASE_URL=f"http://127.0.0.1:{nobody}")))
    assert checks.keys() == EVERY_LINE and checks["environment"].ok and checks["packages"].ok
    assert "not available" in checks["Backend API and its database"].says
    assert checks["API key of openai"].says == "cannot be looked at: the backend is away"
    assert checks["pollers of llm-openai"].says == "cannot be looked at: Temporal is away"
    assert "no supervisord answers" in checks["supervisord"].says


def test_a_fleet_that_is_down_is_one_problem_for_people(nobody: int) -> None:
    shown = CliRunner().invoke(operating.app, ["doctor"]).stdout
    assert shown.count("problem") == 1 and "no fleet is up in" in shown and "fleet up --detach" in shown
    assert "because of that: " in shown and "pollers of llm-gemini" in shown


async def test_a_fleet_that_is_down_hides_no_problem_of_another_kind(
    nobody: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLEET_LOG_LEVL", "x")
    checks = await examine(load_settings(API_BASE_URL=f"http://127.0.0.1:{nobody}"))
    assert [check.what for check in checks if not check.ok and not check.because] == ["fleet", "environment"]


def test_a_variable_that_is_no_setting_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLEET_LOG_LEVL", "FLEET_API_BASE_URL", "FLEET_LOG_FORMAT", "FLEET_PROVIDERS__GROQ__KIND"):
        monkeypatch.setenv(name, "x")
    told = {check.says: check.remedy for check in given.environment_checks([]) if check.what == "environment"}
    assert [*told] == ["FLEET_API_BASE_URL is not a setting", "FLEET_LOG_LEVL is not a setting"]
    assert "did you mean API_BASE_URL?" in told["FLEET_API_BASE_URL is not a setting"]
    assert "did you mean LOG_LEVEL?" in told["FLEET_LOG_LEVL is not a setting"]


def test_what_is_set_is_named_with_its_source_and_without_its_value(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def told() -> str:
        return by_name(list(given.environment_checks([])))["environment"].says

    monkeypatch.delenv("FLEET_STATE_DIR", raising=False)
    assert told() == "nothing is missing or wrong; no setting is set, so all have their defaults"
    monkeypatch.setenv("FLEET_LOG_FORMAT", "json")
    monkeypatch.setenv("FLEET_PROVIDERS__OPENAI__RPM", "500")
    (tmp_path / ".env").write_text("API_BASE_URL=http://secret-place:1\nOTHER=1\n", "utf-8")
    (tmp_path / "fleet.toml").write_text("max_attempts = 2\n", "utf-8")
    assert told().endswith(
        "set are in the environment FLEET_LOG_FORMAT, FLEET_PROVIDERS__OPENAI__RPM; in .env API_BASE_URL; "
        "in fleet.toml max_attempts"
    )


def exposures() -> list[tuple[str, str, str]]:
    checks = exposure_checks(load_settings(API_BASE_URL="https://backend:1"))
    return [(check.what, check.says, check.remedy) for check in checks]


def test_a_key_for_temporal_that_goes_without_tls_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_API_KEY", "a-key-for-temporal")
    monkeypatch.setenv("TEMPORAL_ADDRESS", "temporal.example:7233")
    assert exposures() == [], "a key turns TLS on"
    monkeypatch.setenv("TEMPORAL_TLS", "false")
    ((what, says, remedy),) = exposures()
    assert what == "API key for Temporal" and "goes to temporal.example:7233 without TLS" in says
    assert "unset TEMPORAL_TLS" in remedy and "a-key" not in says
    monkeypatch.setenv("TEMPORAL_ADDRESS", "localhost:7233")
    assert exposures() == [], "it does not leave this machine"


def test_a_proxy_that_is_withheld_from_the_sdks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    ((what, says, remedy),) = exposures()
    assert what == "proxy" and "do not go through the proxy of HTTPS_PROXY" in says
    assert remedy == "if they must, set FLEET_SDK_VARIABLES=HTTPS_PROXY"
    monkeypatch.setenv("FLEET_SDK_VARIABLES", "HTTPS_PROXY")
    assert exposures() == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("machine generativelanguage.googleapis.com login me password mine\n", True),
        ("default login me password mine\n", True),
        ("machine elsewhere.example login me password mine\n", False),
        ("this is no netrc", False),
    ],
)
def test_credentials_that_the_older_gemini_sdk_takes_from_netrc_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, told: bool
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text(text, "utf-8")
    assert exposures() == [], "the newer SDK does not read it"
    monkeypatch.setenv("FLEET_PROVIDERS__GEMINI__SDK", "google-generativeai")
    found = exposures()
    assert bool(found) == told
    for what, says, remedy in found:
        assert what == "netrc of gemini" and str(tmp_path / ".netrc") in says and "mine" not in says
        assert "unset FLEET_PROVIDERS__GEMINI__SDK" in remedy


VERSIONS = [
    ("1.35.0", ">=1.35,<2", True),
    ("1.34.9", ">=1.35,<2", False),
    ("2.0", ">=1.35,<2", False),
    ("2.0.0rc1", "<2", False),
    ("1.35", "==1.35.0", True),
    ("1.35", "!=1.35", False),
    ("0.7.10", ">=0.7.3,<1", True),
]


@pytest.mark.parametrize(("there", "wanted", "fits"), VERSIONS)
def test_versions_are_compared_by_their_numbers(there: str, wanted: str, fits: bool) -> None:
    assert given.fits(there, wanted) is fits


def test_packages_are_held_against_what_pyproject_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = {name: set(wanted.split(",")) for name, wanted in given.required()}
    for line in project["dependencies"]:
        name, bound, rest = line.partition(">=")
        assert asked.pop(name) == set((bound + rest).split(","))
    assert not asked

    def other(name: str, version: Callable[[str], str] = given.version) -> str:
        if name in ("loguru", "google-generativeai"):
            raise PackageNotFoundError(name)
        return "0.9" if name == "temporalio" else version(name)

    monkeypatch.setattr(given, "version", other)
    told = [check for check in given.environment_checks([]) if check.what == "packages"]
    assert {check.says.split(",")[0] for check in told} == {"temporalio is 0.9", "loguru is missing"}
    assert not any(check.ok for check in told)


@pytest.mark.parametrize(("mode", "ok"), [(0o640, True), (0o600, True), (0o644, False), (0o660, False)])
def test_the_settings_of_an_installed_fleet_are_not_for_everybody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int, ok: bool
) -> None:
    folder = tmp_path / "seo-worker"
    folder.mkdir()
    (folder / "environment").touch()
    (folder / "environment").chmod(mode)
    monkeypatch.chdir(folder)
    settings = load_settings(API_BASE_URL="https://backend:1", state_dir=tmp_path / "state")
    assert by_name(list(machine_checks(settings)))["rights of environment"].ok is ok


def test_journals_are_read_as_they_are(tmp_path: Path) -> None:
    settings = load_settings(API_BASE_URL="https://backend:1", state_dir=tmp_path)
    journals = tmp_path / "journal"
    journals.mkdir()
    (journals / "openai.db").write_bytes(b"this is no database" * 100)
    with sqlite3.connect(journals / "gemini.db") as whole:
        whole.execute("CREATE TABLE calls (key TEXT)")
        whole.execute("INSERT INTO calls VALUES ('one')")
    whole.close()
    checks = by_name(list(machine_checks(settings)))
    assert not checks["journal of openai"].ok and "not a database" in checks["journal of openai"].says
    assert checks["journal of gemini"].ok and checks["journal of gemini"].says.startswith("1 calls")
    assert checks["journal of anthropic"].ok and not (journals / "anthropic.db").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[program:openai]\nstopwaitsecs=long", "long"),
        ("[program:openai]\nstopwaitseconds=30", "unknown key stopwaitseconds"),
        ("[program:openai", "no section headers"),
    ],
)
def test_a_damaged_file_of_supervisords_is_told(tmp_path: Path, text: str, said: str) -> None:
    settings = load_settings(API_BASE_URL="https://backend:1", state_dir=tmp_path)
    (tmp_path / "supervisord.conf").write_text(text, "utf-8")
    check = by_name(list(machine_checks(settings)))["supervisord.conf"]
    assert not check.ok and said in check.says


WELL = FleetStatus(
    Reachable("t", ok=True),
    Reachable("b", ok=True),
    [
        ProcessStatus("openai", "openai_00", "RUNNING", 1, 60),
        ProcessStatus("control", "control_00", "RUNNING", 2, 60),
    ],
    [QueueStatus("pipeline", 2, 0, 0.0), QueueStatus("llm-openai", 1, 5, 12.0)],
)


def looked_at(status: FleetStatus) -> dict[str, Check]:
    return by_name(process_checks(load_settings(API_BASE_URL="https://backend:1"), status))


def test_processes_and_pollers_are_counted() -> None:
    checks = looked_at(WELL)
    assert all(check.ok for check in checks.values())
    assert checks["processes"].says == "2 run: 1 openai, 1 control"
    assert checks["pollers of llm-openai"].says == "1, 5 wait, the oldest for 12 s"


def test_a_process_that_cannot_send_says_what_to_look_at() -> None:
    said = "openai_00 cannot reach openai: probing, next in 12 s: openai: lost_before_sending: …"
    check = looked_at(replace(WELL, complaints=[f"{said}. Remedy: see that this machine reaches base_url"]))[
        "processes"
    ]
    assert (check.ok, check.says, check.remedy) == (False, f"{said}.", "see that this machine reaches base_url")


def test_a_process_that_does_not_run_and_a_queue_without_pollers_are_told() -> None:
    fatal = ProcessStatus("openai", "openai_00", "FATAL", None, 0, "Exited too quickly")
    checks = looked_at(
        replace(
            WELL,
            processes=[fatal],
            queues=[QueueStatus("llm-openai", 0, 5, 12.0)],
            complaints=["control_00 has stood still for 21 s"],
        )
    )
    assert checks["process openai_00"].says == "FATAL Exited too quickly"
    assert "openai_00.stdout.log" in checks["process openai_00"].remedy
    assert checks["processes"].says == "control_00 has stood still for 21 s"
    assert checks["pollers of llm-openai"].says == "nobody polls the queue llm-openai"
    assert not any(check.ok for name, check in checks.items() if name != "supervisord")


DAMAGED = Failed("p-1", "p", "assistant_damaged", "Asistent nemá název - databáze poškozená (…)", overcome=False)
EXHAUSTED = Failed("q-1", "q", "attempts_exhausted", "LLM selhalo po 3 pokusech (…)", overcome=True)


def test_pipelines_that_failed_are_told_with_the_words_that_people_know() -> None:
    assert verdict([]).ok
    both = verdict([DAMAGED, EXHAUSTED])
    assert not both.ok and both.says.startswith("2 failed within the last hour; p-1 failed: Asistent nemá název")
    assert "fleet retry p-1" in both.remedy


NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def run_of(workflow_id: str, status: str, began: int, ended: int | None) -> WorkflowExecution:
    """A run that began and ended so many minutes after noon."""
    return cast(
        WorkflowExecution,
        SimpleNamespace(
            id=workflow_id,
            status=WorkflowExecutionStatus[status],
            start_time=NOON + timedelta(minutes=began),
            close_time=None if ended is None else NOON + timedelta(minutes=ended),
        ),
    )


def test_a_pipeline_counts_once_by_its_latest_run_so_a_retry_that_works_ends_its_failure() -> None:
    failed = [run_of(f"p-{number}", "FAILED", 0, number) for number in range(1, 8)]
    assert [run.id for run, _ in failures_among(failed)] == [f"p-{number}" for number in range(7, 0, -1)]
    retried = [
        run_of("p-1", "RUNNING", 20, None),
        run_of("p-2", "COMPLETED", 20, 21),
        run_of("p-3", "FAILED", 20, 22),
    ]
    found = failures_among([*retried, *failed])
    assert [run.id for run, _ in found] == ["p-3", "p-7", "p-6", "p-5", "p-4"]
    assert [overcome for _, overcome in found] == [False, True, True, True, True]


def test_all_failures_are_counted_also_those_whose_cause_was_not_read() -> None:
    assert verdict([DAMAGED], unread=299).says.startswith("300 failed within the last hour; p-1 failed: ")
    assert not verdict([], unread=3).ok


def test_a_failure_that_others_have_overcome_is_told_and_is_no_problem() -> None:
    check = verdict([EXHAUSTED])
    assert check.ok and "LLM selhalo po 3 pokusech" in check.says and "fleet retry q-1" in check.remedy


SAME_CLOCK = [(0.0, 0), (0.999, 0), (1.9, 0), (0.2, -1)]


@pytest.mark.parametrize(("late", "told"), SAME_CLOCK)
def test_one_and_the_same_clock_is_never_said_to_differ(late: float, told: int) -> None:
    """A Date header has whole seconds, and a server may send that of the second before."""
    check = compared_clock(NOON.timestamp() + late, NOON.timestamp() + late + 0.05, NOON.timestamp() + told)
    assert check.ok and check.says == "agrees with the backend's, as far as its Date header shows: to 2 s"


@pytest.mark.parametrize(
    ("ahead", "ok", "says"),
    [
        (4.0, True, "at least 2.0 s ahead of the backend's"),
        (9.0, False, "at least 7.0 s ahead of the backend's"),
        (-9.0, False, "at least 9.0 s behind the backend's"),
    ],
)
def test_another_clock_is_said_to_differ_by_what_is_certain(ahead: float, ok: bool, says: str) -> None:
    at = NOON.timestamp() + ahead
    check = compared_clock(at, at, NOON.timestamp())
    assert (check.ok, check.says) == (ok, says) and bool(check.remedy) is not ok


def test_a_provider_that_was_configured_after_the_start_is_no_damage_to_supervisords_files(
    tmp_path: Path,
) -> None:
    (tmp_path / "supervisord.conf").write_text((PROJECT_ROOT / "supervisord.conf").read_text("utf-8"), "utf-8")
    groq = {"kind": "openai", "base_url": "https://groq:1"}
    settings = load_settings(
        API_BASE_URL="https://backend:1", state_dir=tmp_path, log_dir=tmp_path, providers={"groq": groq}
    )
    checks = by_name([*machine_checks(settings)])
    assert "groq" not in checks["supervisord.conf"].says
    told = checks["program of groq"]
    assert not told.ok and "configured after the fleet was started" in told.says and "`fleet down`" in told.remedy


@pytest.mark.parametrize(
    ("answer", "settable"),
    [
        (None, True),
        (RPCStatusCode.INVALID_ARGUMENT, True),
        (RPCStatusCode.UNIMPLEMENTED, False),
        (RPCStatusCode.PERMISSION_DENIED, False),
    ],
)
async def test_whether_limits_can_be_set_is_asked_by_an_order_that_changes_nothing(
    answer: RPCStatusCode | None, settable: bool
) -> None:
    asked = []

    async def update(request: Any, **options: Any) -> None:
        asked.append(request)
        if answer is not None:
            raise RPCError("no", answer, b"")

    service = SimpleNamespace(update_task_queue_config=update)
    client = cast(Client, SimpleNamespace(namespace="default", workflow_service=service))
    assert await limits_settable(client, "llm-openai") is settable
    assert [request.HasField("update_queue_rate_limit") for request in asked] == [False]


@pytest.mark.parametrize("ends_polls", [True, False])
async def test_a_server_by_which_a_drain_loses_tasks_is_told(*, ends_polls: bool) -> None:
    async def describe(request: DescribeNamespaceRequest, **options: Any) -> DescribeNamespaceResponse:
        capabilities = NamespaceInfo.Capabilities(worker_poll_complete_on_shutdown=ends_polls)
        return DescribeNamespaceResponse(namespace_info=NamespaceInfo(name="seo", capabilities=capabilities))

    service = SimpleNamespace(describe_namespace=describe)
    check = await namespace_check(cast(Client, SimpleNamespace(namespace="seo", workflow_service=service)))
    assert check.ok and check.says.startswith("seo")
    assert ("frontend.enableCancelWorkerPollsOnShutdown" in check.remedy) is not ends_polls


def test_projects_from_a_folder_are_told_with_their_mistakes(tmp_path: Path) -> None:
    told = {
        "well": ToldProject("abc", []),
        "ill": ToldProject("def", ["ill/1-a.prompt:2: modle is not supported. Remedy: correct it"]),
        "never": ToldProject("", ["never: it has no file. Remedy: add one"]),
    }
    checks = by_name(project_checks(load_settings(projects_dir=tmp_path), told))
    assert checks["project well"].ok and checks["project well"].says == "fingerprint abc"
    assert not checks["project ill"].ok and checks["project ill"].remedy == "correct it"
    assert checks["project ill"].says == "version def stays in use: ill/1-a.prompt:2: modle is not supported"
    assert checks["project never"].says == "it cannot be used: never: it has no file"


def test_a_folder_of_projects_that_is_not_served_is_told(tmp_path: Path) -> None:
    (check,) = project_checks(load_settings(projects_dir=tmp_path, api_base_url="https://backend"), {})
    assert "API_BASE_URL is set too and wins" in check.says and check.remedy
    (check,) = project_checks(load_settings(projects_dir=tmp_path / "nowhere"), {})
    assert not check.ok and "is not a folder" in check.says


def test_machines_that_serve_different_versions_of_a_project_are_told() -> None:
    here = Reachable("b", ok=True, projects={"my": ToldProject("abc", []), "same": ToldProject("def", [])})
    there = OtherMachine("vm2", "m2", told=Told(projects={"my": "xyz", "same": "def", "other": "uvw"}))
    silent = OtherMachine("vm3", "m3")
    status = replace(WELL, backend=here, machines=[there, silent])
    (check,) = unlike_projects(status)
    assert not check.ok and check.says == "project my is abc here and xyz on vm2+m2" and check.remedy
    assert check.says in status.problems()


@contextmanager
def answering(body: bytes, state: Path, **more: Any) -> Iterator[Settings]:
    """Settings whose control process is a server that answers every request with that body."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("authorization")))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    asked: list[tuple[str, str | None]] = []
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            port = server.server_port
            yield load_settings(api_base_url="http://localhost:1", state_dir=state, control_port=port, **more)
        finally:
            server.shutdown()
            thread.join()
    assert asked == [("/status", None)], "another program may answer there, so it gets no token"


def own_status(state: Path) -> bytes:
    return json.dumps({"machine": f"{socket.gethostname()}+{machine_id(state)}"}).encode()


async def test_the_doctor_says_who_can_reach_the_control_process(tmp_path: Path) -> None:
    with answering(own_status(tmp_path), tmp_path) as settings:
        checks = by_name(await control_checks(settings))
    assert checks["control"].ok and checks["control"].says.endswith("for this machine alone")
    assert checks["control"].remedy == checks["page"].remedy == ""
    with answering(own_status(tmp_path), tmp_path, control_host="0.0.0.0") as settings:
        control = by_name(await control_checks(settings))["control"]
    assert control.ok and "from another machine reads states, counts and metrics" in control.says
    assert "firewall" in control.remedy and "FLEET_CONTROL_HOST=127.0.0.1" in control.remedy


async def test_the_doctor_calls_reading_without_a_login_insecure(tmp_path: Path) -> None:
    with answering(own_status(tmp_path), tmp_path, control_open_reads=True) as settings:
        page = by_name(await control_checks(settings))["page"]
    assert "insecure" in page.says and "FLEET_CONTROL_OPEN_READS" in page.says and "unset it" in page.remedy


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b"{}", b'{"machine": "other+1234"}', b'{"machine": "\\u001b[2J"}']
)
async def test_the_doctor_notices_another_program_at_the_address(tmp_path: Path, body: bytes) -> None:
    with answering(body, tmp_path) as settings:
        control = by_name(await control_checks(settings))["control"]
    assert not control.ok and "and not this fleet" in control.says and "FLEET_CONTROL_PORT" in control.remedy


def test_the_doctor_wants_the_token_of_the_page_to_be_its_users_alone(tmp_path: Path) -> None:
    credentials = PageCredentials(tmp_path / "page")
    credentials.made_token()
    settings = load_settings(api_base_url="http://localhost:1", state_dir=tmp_path)
    assert by_name(machine_checks(settings))["rights of token"].ok
    (credentials.folder / "token").chmod(0o644)
    token = by_name(machine_checks(settings))["rights of token"]
    assert not token.ok and token.remedy == f"chmod 600 {credentials.folder / 'token'}"
