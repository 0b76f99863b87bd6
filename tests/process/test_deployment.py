"""docs/deployment.md followed below a folder: a second machine on the Temporal server of a fleet."""

import contextlib
import os
import shlex
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fleet.config import PROJECT_ROOT, Settings, load_settings
from fleet.control.home import Home
from fleet.control.supervisor import Supervisor
from fleet.devstack.environment import simulated_providers
from tests.evidence import last_lines
from tests.fleet import ENVIRONMENT, Fleet, json_of, running_fleet
from tests.loopback import answers
from tests.ports import free_port_base
from tests.process import hardened
from tests.process.guides import GUIDES, blocks, commands
from tests.waiting import wait_for

pytestmark = pytest.mark.installs

STEP_SECONDS = 300
#: What the guide tells to do that this test does in its own way, or that another test does.
BY_OTHERS = {
    "scripts/demo.sh": "test_fleet.py runs the demo",
    "sudo editor /etc/seo-worker/environment": "the machine fixture writes it",
    "sudo systemctl enable --now seo-worker": "the machine fixture runs the unit's ExecStart",
    "sudo scripts/install.sh": "the machine fixture runs it with --root, test_install.py as root",
    "sudo scripts/update.sh --ref main": "the update tests run it with --root",
    "sudo scripts/install.sh --uninstall": "test_update_script.py runs it with --root, test_install.py as root",
    "sudo scripts/install.sh --uninstall --purge": "test_update_script.py and test_install.py run it too",
    "sudo usermod -aG seo-worker vector": "test_install.py has such a user",
}
PIPES: dict[str, Any] = {"capture_output": True, "text": True, "timeout": STEP_SECONDS, "check": False}


@dataclass
class Machine:
    """An installed machine below ``root``, from a checkout of its own; ``author`` is where main is worked on."""

    root: Path
    checkout: Path
    author: Path
    port: int
    running: "list[subprocess.Popen[str]]" = field(default_factory=list)

    @property
    def current(self) -> str:
        return (self.root / "opt/seo-worker/current").readlink().name

    def made(self) -> set[str]:
        """The releases that are there, whole."""
        return {path.parent.name for path in self.root.glob("opt/seo-worker/releases/*/.complete")}

    @property
    def environment(self) -> Path:
        return self.root / "etc/seo-worker/environment"

    @property
    def state(self) -> Path:
        return self.root / "var/lib/seo-worker"

    @property
    def logs(self) -> Path:
        return self.root / "var/log/seo-worker"

    def start(self, command: str) -> "subprocess.Popen[str]":
        """A command of the guide's, as it stands there."""
        words = shlex.split(command, comments=True)
        words = words[1:] if words[0] == "sudo" else words
        if words[0] in ("scripts/install.sh", "scripts/update.sh"):
            words += ["--root", str(self.root)]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            words, cwd=self.checkout, env=self.variables, stdout=pipe, stderr=pipe, text=True, umask=0o077
        )

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        process = self.start(command)
        out, err = process.communicate(timeout=STEP_SECONDS)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    @property
    def variables(self) -> dict[str, str]:
        """A shell's, that knows nothing of the fleet but where its commands are."""
        known = ("FLEET_", "PYTHONPATH")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(known)}
        return clean | {
            "PATH": f"{self.root / 'usr/local/bin'}:{os.environ['PATH']}",
            "FLEET_UPDATE_PATIENCE_SECONDS": "40",
        }

    @property
    def settings(self) -> Settings:
        return load_settings(API_BASE_URL="http://localhost", control_port=self.port)

    def start_service(self) -> None:
        """What systemd does with the installed unit."""
        unit = self.root / "etc/systemd/system/seo-worker.service"
        command = [sys.executable, hardened.__file__, str(unit), *hardened.setting_of(unit, "ExecStart").split()]
        with (self.root / "service.log").open("w") as log:
            self.running.append(subprocess.Popen(command, env=self.variables, stdout=log, stderr=log, text=True))

    def stop_service(self) -> int:
        process = self.running.pop()
        process.terminate()
        return process.wait(120)

    def publish(self, path: str, old: str, new: str) -> None:
        """Push a change to main."""
        file = self.author / path
        text = file.read_text("utf-8")
        assert old in text
        file.write_text(text.replace(old, new), "utf-8")
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        for arguments in ([*who, "commit", "-qam", "change"], ["push", "-q", "origin", "HEAD:main"]):
            done = subprocess.run(["git", *arguments], cwd=self.author, **PIPES)
            assert done.returncode == 0, done.stderr

    def pids(self) -> dict[str, int]:
        """The pid of each process, as supervisord has it."""
        processes = Supervisor(Home.at(self.state).socket).processes()
        return {one.process: one.pid for one in processes if one.pid}

    def evidence(self, since: float) -> Iterator[tuple[str, str]]:
        """What went on on the machine since then; see :mod:`tests.evidence`."""
        yield "fleet health", self.run("fleet health").stdout
        yield from last_lines(self.logs, since)

    def is_well(self) -> bool:
        """What `fleet health` asks, without the cost of a command."""
        return answers(f"http://127.0.0.1:{self.port}/health")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def clone(origin: Path, *options: str, to: Path) -> None:
    subprocess.run(["git", "clone", "-q", *options, str(origin), str(to)], check=True)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The other machine, of these tests alone: what failed elsewhere is no matter for the doctor here."""
    with running_fleet(tmp_path_factory.mktemp("elsewhere") / "state", ENVIRONMENT) as running:
        yield running


@pytest.fixture(scope="module")
def machine(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("machine")
    origin = folder / "origin"
    clone(PROJECT_ROOT, "--bare", to=origin)
    for words in (["update-ref", "refs/heads/main", "HEAD"], ["symbolic-ref", "HEAD", "refs/heads/main"]):
        subprocess.run(["git", *words], cwd=origin, check=True)
    machine = Machine(folder / "root", folder / "checkout", folder / "author", free_port_base())
    clone(origin, to=machine.checkout)
    clone(origin, to=machine.author)
    (machine.checkout / ".env").write_text("OPENAI_API_KEY=a-developers-own\n", "utf-8")
    (machine.checkout / "notes.txt").write_text("a developer's own\n", "utf-8")
    installed = machine.run("sudo scripts/install.sh")
    assert installed.returncode == 0, installed.stderr
    assert "now set API_BASE_URL" in installed.stdout
    base = f"http://127.0.0.1:{fleet.port_base + 3}"
    providers = load_settings(API_BASE_URL="http://localhost").providers.values()
    lines = {
        "API_BASE_URL": f"http://127.0.0.1:{fleet.port_base + 2}",
        "TEMPORAL_HOST": f"127.0.0.1:{fleet.port_base}",
        "FLEET_CONTROL_PORT": str(machine.port),
        **simulated_providers(base, providers),
    }
    machine.environment.write_text("".join(f"{name}={value}\n" for name, value in lines.items()), "utf-8")
    machine.start_service()
    try:
        wait_for("it is well", machine.is_well, 90)
        yield machine
    finally:
        while machine.running:
            machine.stop_service()


@pytest.mark.timeout(400)
def test_every_command_of_the_guide_works(machine: Machine) -> None:
    for command in commands(GUIDES[0]):
        if command not in BY_OTHERS:
            done = machine.run(command.replace(":8020/", f":{machine.port}/"))
            assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"
    assert set(BY_OTHERS) <= set(commands(GUIDES[0]))


def test_health_is_asked_from_python_as_the_guide_has_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (program,) = blocks(GUIDES[0], "python")
    monkeypatch.setenv("API_BASE_URL", "http://localhost")
    monkeypatch.setenv("FLEET_CONTROL_PORT", str(machine.port))
    found: dict[str, Any] = {}
    exec(program, found)
    assert found["health"].ok and found["health"].problems == []
    monkeypatch.setenv("FLEET_CONTROL_PORT", "1")
    exec(program, found)
    assert not found["health"] and "does not answer" in found["health"].problems[0]


def test_two_machines_share_limits_and_pause_and_nothing_else(machine: Machine, fleet: Fleet) -> None:
    assert machine.run("fleet scale openai 2").returncode == 0
    assert [one["process"] for one in fleet.status()["processes"] if one["program"] == "openai"] == ["openai_00"]
    status = fleet.status()
    (queue,) = (one for one in status["queues"] if one["queue"] == "llm-openai")
    assert queue["pollers"] >= 3, "the server sees the pollers of both machines, ended ones for a while"
    (other,) = status["machines"]
    assert {"openai_00", "openai_01"} <= {*other["processes"]}
    assert machine.run("fleet pause openai --why shared").returncode == 0
    here = json_of(fleet.fleet("limits", "openai", "--json").stdout)["queues"]["llm-openai"]
    assert (here["breaker"], here["why"]) == ("paused", "shared")
    assert fleet.fleet("resume", "openai").returncode == 0
    there = json_of(machine.run("fleet limits openai --json").stdout)["queues"]["llm-openai"]
    assert there["breaker"] == "closed"
    done = machine.run("fleet run Kávovar --project seo-demo --json")
    assert json_of(done.stdout)["status"] == "completed", done.stderr


def test_logs_and_scrape_are_of_one_machine(machine: Machine, fleet: Fleet) -> None:
    assert machine.run("fleet scale openai 2").returncode == 0
    done = machine.run("fleet run Kávovar --project seo-demo --json")
    workflow = json_of(done.stdout)["workflow_id"]

    def told() -> list[list[dict[str, Any]]] | None:
        """Each machine's successes, once they are all there."""
        outputs = [
            machine.run(f"fleet logs --workflow {workflow} --json").stdout,
            fleet.fleet("logs", "--workflow", workflow, "--json").stdout,
        ]
        lines = [[json_of(line) for line in output.splitlines()] for output in outputs]
        found = [[one for one in log if "ACTIVITY SUCCESS" in one["message"]] for log in lines]
        return found if sum(map(len, found)) == 9 else None

    here, there = wait_for("both have told their part", told)
    assert [one for one in here if one in there] == []
    scraped = [scrape(machine.port), scrape(fleet.port_base + 4)]
    names = [{labels["process"] for name, labels in samples if name == "fleet_process_up"} for samples in scraped]
    assert "openai_01" in names[0] and "openai_01" not in names[1]
    assert "groq_00" in names[1] and "groq_00" not in names[0]


def scrape(port: int) -> list[tuple[str, dict[str, str]]]:
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False, timeout=20, verify=False).text
    return [(one.name, one.labels) for family in text_string_to_metric_families(text) for one in family.samples]


def test_an_install_under_a_strict_umask_is_for_all_who_shall_use_it(machine: Machine) -> None:
    prefix, commands = machine.root / "opt/seo-worker", machine.root / "usr/local/bin"
    # Unlike on a machine, the release is its user's own here, so `fleet replay` keeps its compiled self there.
    made_since = ["!", "-path", "*/.venv/bin/__pycache__*"]
    hidden = subprocess.run(["find", str(prefix), *made_since, "!", "-type", "l", "!", "-perm", "-o=r"], **PIPES)
    assert hidden.stdout == ""
    assert {mode(path) for path in commands.iterdir()} == {0o755}
    assert (mode(machine.environment.parent), mode(machine.environment)) == (0o750, 0o640)
    assert (mode(machine.state), mode(machine.logs)) == (0o700, 0o750)
    release = prefix / "current"
    assert not (release / ".env").exists() and not (release / "notes.txt").exists()


def test_all_logs_are_in_one_folder_and_its_group_reads_them(machine: Machine) -> None:
    logs = {path.name: mode(path) for path in machine.logs.iterdir() if path.is_file()}
    assert {"openai_00.log", "openai_00.stdout.log", "supervisord.log", "worker_production.log"} <= logs.keys()
    assert set(logs.values()) == {0o640}


def test_installing_again_changes_nothing(machine: Machine) -> None:
    before, release, made = machine.environment.read_text("utf-8"), machine.current, machine.made()
    again = machine.run("sudo scripts/install.sh")
    assert again.returncode == 0 and machine.environment.read_text("utf-8") == before
    assert machine.current == release and machine.made() == made
    assert "until it is renewed" not in again.stdout


def test_the_doctor_names_what_makes_pipelines_fail(machine: Machine, fleet: Fleet) -> None:
    fleet.add_project("nameless", {"name": None})
    assert machine.run("fleet run Kávovar --project nameless").returncode == 1
    ill = machine.run("fleet doctor --json")
    assert ill.returncode == 1
    checks = {one["what"]: one for one in json_of(ill.stdout)["checks"] if not one["ok"]}
    assert checks.keys() == {"pipelines", "assistants of nameless"}
    assert "nameless-" in checks["pipelines"]["says"]
    for one in checks.values():
        assert "Asistent nemá název - databáze poškozená" in one["says"] and one["remedy"]
    fleet.backend("UPDATE Assistant SET name='...' WHERE name IS NULL")
    assert machine.run("fleet run Kávovar --project nameless").returncode == 0
    well = machine.run("fleet doctor")
    assert well.returncode == 0 and "others have completed since" in well.stdout, well.stdout


def journaled_by(machine: Machine, project: str) -> set[int]:
    """The pids of those that have called openai for a project."""
    with contextlib.closing(sqlite3.connect(machine.state / "journal/openai.db")) as journal:
        rows = journal.execute("SELECT DISTINCT pid FROM calls WHERE workflow_id LIKE ?", (f"{project}-%",))
        return {pid for (pid,) in rows}


@pytest.mark.timeout(400)
def test_an_update_renews_all_and_pipelines_go_through_it_without_losing_an_attempt(
    machine: Machine, fleet: Fleet
) -> None:
    before, release, elsewhere = machine.pids(), machine.current, fleet.pids()
    fleet.add_project("through-update", {}, {}, {})
    fleet.simulator.clear()
    assert fleet.supervisorctl("stop", "openai:*").returncode == 0  # all of its calls are this machine's
    try:
        with fleet.latency("openai", 1.0):
            machine.publish("README.md", "# assistant-fleet", "# assistant-fleet, newer")
            made = machine.made()
            updating = machine.start("sudo scripts/update.sh --ref main")
            wait_for("the release is made", lambda: machine.made() - made, STEP_SECONDS)
            outcomes = run_until(fleet, lambda: updating.poll() is not None)
            said, wrong = updating.communicate(timeout=STEP_SECONDS)
            assert updating.returncode == 0, said + wrong
            outcomes.append(json_of(machine.run("fleet run Kávovar --project through-update --json").stdout))
    finally:
        fleet.supervisorctl("start", "openai:*")
    assert machine.current != release and f"updated from {release}" in said
    after = machine.pids()
    assert after.keys() == before.keys() and all(after[name] != before[name] for name in before)
    assert {one["status"] for one in outcomes} == {"completed"}
    attempts = [one["attempts"] for outcome in outcomes for one in outcome["assistants"]]
    assert attempts == [1] * 3 * len(outcomes)
    assert len(fleet.simulator.ledger()) == len(attempts), "no call was sent twice"
    callers = journaled_by(machine, "through-update")
    openai = [name for name in before if name.startswith("openai_")]
    assert callers & {before[name] for name in openai} and callers & {after[name] for name in openai}
    others = fleet.pids()
    assert {name: pid for name, pid in elsewhere.items() if name != "openai"}.items() <= others.items()


def run_until(fleet: Fleet, over: Callable[[], bool]) -> list[dict[str, Any]]:
    """The outcomes of pipelines that run, two at a time, one after another, until it is over; of two at least.

    The other machine starts them: a command that is started anew for each costs more than the update itself.
    """
    outcomes: list[dict[str, Any]] = []
    while not outcomes or not over():
        runs = [fleet.start("run", "Kávovar", "--project", "through-update", "--json") for _ in range(2)]
        outcomes += [json_of(run.communicate(timeout=120)[0]) for run in runs]
    return outcomes


def test_what_runs_is_of_the_new_release_alone(machine: Machine) -> None:
    release = machine.root / "opt/seo-worker/releases" / machine.current
    assert (machine.state / ".venv").readlink() == release / ".venv"
    ask = [
        str(machine.state / ".venv/bin/python"),
        "-P",
        "-c",
        "import sys, fleet; print(fleet.__file__, *sys.path)",
    ]
    paths = [Path(word) for word in subprocess.run(ask, env=machine.variables, **PIPES).stdout.split()]
    assert not any(path.is_relative_to(machine.state) for path in paths), "a link that the next roll turns"
    assert paths[0].is_relative_to(release) and any(path.name == "site-packages" for path in paths)


def test_a_release_that_open_pipelines_could_not_go_on_with_is_refused(machine: Machine, fleet: Fleet) -> None:
    release, pids = machine.current, machine.pids()
    assert machine.run("fleet pause openai").returncode == 0
    fleet.add_project("open", {})
    started = machine.run("fleet run Kávovar --project open --no-wait --json")
    workflow = json_of(started.stdout)["workflow_id"]
    wait_for("its call waits", lambda: backlog(fleet, "llm-openai"))
    machine.publish("fleet/contracts.py", '"load_assistants_from_database"', '"load_assistants_elsewhere"')
    refused = machine.run("sudo scripts/update.sh --ref main")
    assert refused.returncode == 1 and "refused" in refused.stderr, refused.stdout + refused.stderr
    assert f"{workflow}: " in refused.stderr and "0.1.0-pipeline-completed: " in refused.stderr
    assert machine.current == release and machine.pids() == pids
    assert machine.run("fleet resume openai").returncode == 0
    machine.publish("fleet/contracts.py", '"load_assistants_elsewhere"', '"load_assistants_from_database"')


def backlog(fleet: Fleet, name: str) -> int:
    (found,) = (one["backlog"] for one in fleet.status()["queues"] if one["queue"] == name)
    return int(found)


def test_a_release_that_does_not_come_up_gives_way_to_the_old_one(machine: Machine) -> None:
    """The roll ends at the second program, whose old process stays; only the first has been renewed."""
    release, before = machine.current, machine.pids()
    machine.publish(
        "workers/assistants.py", '    run_temporal_process("assistants", life)', "    raise SystemExit(3)"
    )
    back = machine.run("sudo scripts/update.sh --ref main")
    assert back.returncode == 1 and f"back on {release}" in back.stderr, back.stdout + back.stderr
    assert machine.current == release
    wait_for("it is well", machine.is_well)
    after = machine.pids()
    assert after.keys() == before.keys()
    assert {name for name in before if after[name] != before[name]} == {"anthropic_00"}
    done = machine.run("fleet run Kávovar --project seo-demo --json")
    assert json_of(done.stdout)["status"] == "completed", done.stderr


def test_the_service_ends_cleanly_and_starts_again(machine: Machine) -> None:
    pids = machine.pids()
    assert machine.stop_service() == 0
    assert not any(Path("/proc", str(pid)).exists() for pid in pids.values())
    machine.start_service()
    wait_for("it is well", machine.is_well, 90)
