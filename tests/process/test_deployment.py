"""docs/deployment.md followed below a folder: a second machine on the Temporal server of the shared fleet."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from fleet.config import PROJECT_ROOT, load_settings
from fleet.devstack.environment import simulated_providers
from scripts.settings_table import table
from tests.fleet import Fleet, json_of
from tests.ports import free_port_base
from tests.waiting import wait_for

GUIDES = [PROJECT_ROOT / "docs" / name for name in ("deployment.md", "deployment.cs.md")]
UNIT = PROJECT_ROOT / "deploy" / "systemd" / "seo-worker.service"
STEP_SECONDS = 300
#: What the guide tells to do that this test does in its own way, or that another test does.
BY_OTHERS = {
    "scripts/demo.sh": "test_fleet.py runs the demo",
    "sudo editor /etc/seo-worker/environment": "the machine fixture writes it",
    "sudo systemctl enable --now seo-worker": "the machine fixture runs the unit's ExecStart",
    "sudo scripts/install.sh": "the machine fixture runs it with --root",
    "sudo scripts/update.sh --ref main": "the update tests run it with --root",
}


@dataclass
class Machine:
    """An installed machine below ``root``, from a checkout of its own."""

    root: Path
    checkout: Path
    port: int
    running: "list[subprocess.Popen[str]]" = field(default_factory=list)

    @property
    def current(self) -> str:
        return (self.root / "opt/seo-worker/current").readlink().name

    @property
    def environment(self) -> Path:
        return self.root / "etc/seo-worker/environment"

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """A command of the guide's, as it stands there."""
        words = shlex.split(command, comments=True)
        words = words[1:] if words[0] == "sudo" else words
        if words[0] in ("fleet", "fleet-supervisorctl"):
            words[0] = str(self.root / "usr/local/bin" / words[0])
        return subprocess.run(words, cwd=self.checkout, env=self.variables, **PIPES)

    @property
    def variables(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
        return clean | {
            "FLEET_STATE_DIR": str(self.root / "var/lib/seo-worker"),
            "FLEET_UPDATE_PATIENCE_SECONDS": "40",
        }

    def install(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self.run(f"scripts/install.sh --root {self.root} {shlex.join(options)}")

    def start_service(self) -> None:
        """What systemd does with the installed unit."""
        unit = (self.root / "etc/systemd/system/seo-worker.service").read_text("utf-8")
        (command,) = re.findall(r"^ExecStart=(.+)$", unit, re.MULTILINE)
        lines = (line.split("=", 1) for line in self.environment.read_text("utf-8").splitlines() if "=" in line)
        pairs = {name: value for name, value in lines if not name.startswith("#")}
        (own,) = re.findall(r"^Environment=(.+)$", unit, re.MULTILINE)
        pairs |= dict(word.split("=", 1) for word in own.split())
        folder, variables = self.root / "etc/seo-worker", self.variables | pairs
        with (self.root / "service.log").open("w") as log:
            self.running.append(
                subprocess.Popen(
                    shlex.split(command), cwd=folder, env=variables, stdout=log, stderr=log, text=True
                )
            )

    def stop_service(self) -> int:
        process = self.running.pop()
        process.terminate()
        return process.wait(120)

    def commit(self, path: str, old: str, new: str) -> None:
        """Change the checkout."""
        file = self.checkout / path
        text = file.read_text("utf-8")
        assert old in text
        file.write_text(text.replace(old, new), "utf-8")
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        done = subprocess.run(["git", *who, "commit", "-qam", "change"], cwd=self.checkout, **PIPES)
        assert done.returncode == 0, done.stderr

    def pids(self) -> dict[str, int]:
        status = json_of(self.run("fleet status --json").stdout)
        return {one["process"]: one["pid"] for one in status["processes"] if one["pid"]}


PIPES = {"capture_output": True, "text": True, "timeout": STEP_SECONDS, "check": False}


@pytest.fixture(scope="module")
def machine(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("machine")
    subprocess.run(["git", "clone", "-q", str(PROJECT_ROOT), str(folder / "checkout")], check=True)
    machine = Machine(folder / "root", folder / "checkout", free_port_base())
    installed = machine.install()
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
        wait_for("it is well", lambda: machine.run("fleet health").returncode == 0, 90)
        yield machine
    finally:
        while machine.running:
            machine.stop_service()


def commands(guide: Path) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", guide.read_text("utf-8"), re.DOTALL)
    lines = [line.partition("   ")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def test_both_guides_have_the_same_commands() -> None:
    english, czech = map(commands, GUIDES)
    assert english == czech and len(english) > 15


def test_the_table_of_settings_is_that_of_the_code() -> None:
    assert table() in GUIDES[0].read_text("utf-8")


def test_the_unit_is_hardened_and_in_order() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    scored = subprocess.run(["systemd-analyze", "security", "--offline=true", str(UNIT)], **PIPES)
    (score,) = re.findall(r"exposure level for seo-worker.service: ([\d.]+)", scored.stdout)
    assert float(score) <= 2.0
    verified = subprocess.run(["systemd-analyze", "verify", str(UNIT)], **PIPES)
    complaints = [line for line in verified.stderr.splitlines() if "is not executable" not in line]
    assert [line for line in complaints if "seo-worker" in line] == []
    assert "TimeoutStopSec=660" in UNIT.read_text("utf-8")


@pytest.mark.timeout(400)
def test_every_command_of_the_guide_works(machine: Machine) -> None:
    for command in commands(GUIDES[0]):
        if command in BY_OTHERS:
            continue
        if command.startswith("curl"):
            url = command.split()[-1].replace(":8020/", f":{machine.port}/")
            assert httpx.get(url, trust_env=False, timeout=20).status_code == 200, command
            continue
        if command == "scripts/health_check.sh":
            # Of a checkout with its environment beside it, as the release has it.
            release = machine.root / "opt/seo-worker/current"
            variables = machine.variables | {
                "FLEET_CONTROL_PORT": str(machine.port),
                "API_BASE_URL": "http://localhost",
            }
            done = subprocess.run([str(release / command)], env=variables, **PIPES)
        else:
            done = machine.run(command)
        assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"


def test_two_machines_share_limits_and_pause_and_nothing_else(machine: Machine, fleet: Fleet) -> None:
    assert machine.run("fleet scale openai 2").returncode == 0
    assert [one["process"] for one in fleet.status()["processes"] if one["program"] == "openai"] == ["openai_00"]
    (queue,) = (one for one in fleet.status()["queues"] if one["queue"] == "llm-openai")
    assert queue["pollers"] == 3, "the server sees the pollers of both machines"
    assert machine.run("fleet pause openai --why shared").returncode == 0
    here = json_of(fleet.fleet("limits", "openai", "--json").stdout)["queues"]["llm-openai"]
    assert (here["breaker"], here["why"]) == ("paused", "shared")
    assert fleet.fleet("resume", "openai").returncode == 0
    there = json_of(machine.run("fleet limits openai --json").stdout)["queues"]["llm-openai"]
    assert there["breaker"] == "closed"
    done = machine.run("fleet run Kávovar --project seo-demo --json")
    assert json_of(done.stdout)["status"] == "completed", done.stderr


def test_installing_again_changes_nothing(machine: Machine) -> None:
    before, release = machine.environment.read_text("utf-8"), machine.current
    again = machine.install()
    assert again.returncode == 0 and machine.environment.read_text("utf-8") == before
    assert machine.current == release and len(list((machine.root / "opt/seo-worker/releases").iterdir())) == 1


def test_an_update_renews_all_and_a_pipeline_runs_through_it(machine: Machine) -> None:
    before, release = machine.pids(), machine.current
    machine.commit("README.md", "# assistant-fleet", "# assistant-fleet, newer")
    updated = machine.run(f"scripts/update.sh --root {machine.root}")
    assert updated.returncode == 0, updated.stdout + updated.stderr
    assert machine.current != release and "updated from" in updated.stdout
    after = machine.pids()
    assert after.keys() == before.keys() and all(after[name] != before[name] for name in before)
    assert (machine.root / "var/lib/seo-worker/.venv").readlink() == (
        machine.root / "opt/seo-worker/releases" / machine.current / ".venv"
    )


def test_a_release_that_open_pipelines_could_not_go_on_with_is_refused(machine: Machine) -> None:
    release, pids = machine.current, machine.pids()
    machine.commit("fleet/contracts.py", '"load_assistants_from_database"', '"load_assistants_elsewhere"')
    refused = machine.run(f"scripts/update.sh --root {machine.root}")
    assert refused.returncode == 1 and "refused" in refused.stderr, refused.stdout + refused.stderr
    assert machine.current == release and machine.pids() == pids
    machine.commit("fleet/contracts.py", '"load_assistants_elsewhere"', '"load_assistants_from_database"')


def test_a_release_that_does_not_come_up_gives_way_to_the_old_one(machine: Machine) -> None:
    release = machine.current
    machine.commit("workers/assistants.py", '    run_process("assistants", life)', "    raise SystemExit(3)")
    back = machine.run(f"scripts/update.sh --root {machine.root}")
    assert back.returncode == 1 and "going back to" in back.stderr, back.stdout + back.stderr
    assert machine.current == release
    wait_for("it is well", lambda: machine.run("fleet health").returncode == 0)
    done = machine.run("fleet run Kávovar --project seo-demo --json")
    assert json_of(done.stdout)["status"] == "completed", done.stderr


def test_the_service_ends_cleanly_and_uninstalling_keeps_what_was_paid_for(machine: Machine) -> None:
    pids = machine.pids()
    assert machine.stop_service() == 0
    assert not any(Path("/proc", str(pid)).exists() for pid in pids.values())
    removed = machine.run(f"scripts/install.sh --root {machine.root} --uninstall")
    assert removed.returncode == 0 and not (machine.root / "opt/seo-worker").exists()
    assert (machine.root / "var/lib/seo-worker/journal").is_dir() and machine.environment.exists()
    purged = machine.run(f"scripts/install.sh --root {machine.root} --uninstall --purge")
    assert purged.returncode == 0 and not (machine.root / "var/lib/seo-worker").exists()
