"""docs/deployment.md followed on a machine with systemd, on the Temporal server of another machine's fleet."""

import contextlib
import socket
import sqlite3
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fleet.process.machine_id import known_id, place_of
from tests.fleet import ENVIRONMENT, Fleet, json_of, running_fleet
from tests.machines import HOST, STEP_SECONDS, Machine, addresses, running_machines
from tests.process.guides import GUIDES, blocks, commands
from tests.waiting import wait_for

#: Its first test waits for machines too.
pytestmark = [pytest.mark.debian, pytest.mark.timeout(1800)]

#: What the guide tells to do that this test does in its own way, or that another test does.
BY_OTHERS = {
    "scripts/demo.sh": "test_fleet.py runs the demo",
    "sudo editor /etc/seo-worker/environment": "the machine fixture writes it",
    "sudo scripts/update.sh --ref main": "the update tests run it",
    "sudo scripts/install.sh --uninstall": "test_systemd.py runs it",
    "sudo scripts/install.sh --uninstall --purge": "test_systemd.py runs it",
    "sudo usermod -aG seo-worker vector": "test_install.py has such a user",
}


def made(machine: Machine) -> set[str]:
    """The releases that are there, whole."""
    return {path.parent.name for path in machine.root.glob("opt/seo-worker/releases/*/.complete")}


def publish(machine: Machine, path: str, old: str, new: str) -> None:
    """Push a change to the main branch that the machine's checkout fetches."""
    author = machine.root / "root/author"
    if not author.exists():
        subprocess.run(["git", "clone", "-q", str(machine.root / "root/origin"), str(author)], check=True)
    text = (author / path).read_text("utf-8")
    assert old in text
    (author / path).write_text(text.replace(old, new), "utf-8")
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in ([*who, "commit", "-qam", "change"], ["push", "-q", "origin", "HEAD:main"]):
        subprocess.run(["git", *arguments], cwd=author, check=True)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The other machine, of these tests alone: what failed elsewhere is no matter for the doctor here."""
    with running_fleet(tmp_path_factory.mktemp("elsewhere") / "state", ENVIRONMENT) as running:
        yield running


@pytest.fixture(scope="module")
def machine(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with running_machines(tmp_path_factory.mktemp("set") / "machines", 1) as (machine,):
        machine.configure(addresses(HOST, fleet.port_base))
        machine.does("sudo systemctl enable --now seo-worker")
        machine.wait_until_well()
        yield machine


def test_every_command_of_the_guide_works(machine: Machine) -> None:
    for command in commands(GUIDES[0]):
        if command not in BY_OTHERS:
            done = machine.run(command)
            assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"
    assert set(BY_OTHERS) <= set(commands(GUIDES[0]))


def test_health_is_asked_from_python_as_the_guide_has_it(machine: Machine) -> None:
    (program,) = blocks(GUIDES[0], "python")
    (machine.root / "root/asked.py").write_text(f"{program}\nprint(health.ok)\n", "utf-8")
    python = "API_BASE_URL=http://localhost FLEET_CONTROL_PORT={} /opt/seo-worker/current/.venv/bin/python"
    assert machine.does(f"{python.format(8020)} /root/asked.py") == "True\n"
    told = machine.does(f"{python.format(1)} /root/asked.py")
    assert "does not answer" in told and told.endswith("False\n")


def test_the_processes_of_machines_with_host_names_of_their_own_are_told_apart(
    machine: Machine, fleet: Fleet
) -> None:
    here, there = (machine.host, machine.id), (socket.gethostname(), known_id(fleet.state))
    assert here[0] != there[0] and here[1] and there[1] and here[1] != there[1]
    for queue in ("pipeline", "assistants", "llm-openai", "llm-gemini"):
        places = map(place_of, fleet.pollers(queue))
        assert {(place.host, place.machine) for place in places if place is not None} == {here, there}
    for look, other in ((machine.status, there), (fleet.status, here)):
        told = {(told["host"], told["machine"]): told["processes"] for told in look()["machines"]}
        assert told.keys() == {other} and "openai_00" in told[other], told


def test_two_machines_share_limits_and_pause_and_nothing_else(machine: Machine, fleet: Fleet) -> None:
    assert machine.run("fleet scale openai 2").returncode == 0
    assert [process["process"] for process in fleet.status()["processes"] if process["program"] == "openai"] == [
        "openai_00"
    ]
    status = fleet.status()
    (queue,) = (listed for listed in status["queues"] if listed["queue"] == "llm-openai")
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
        found = [[record for record in log if "ACTIVITY SUCCESS" in record["message"]] for log in lines]
        return found if sum(map(len, found)) == 9 else None

    here, there = wait_for("both have told their part", told)
    assert [record for record in here if record in there] == []
    scraped = [samples_of(machine.does(SCRAPE)), samples_of(fleet.control("metrics").text)]
    names = [{labels["process"] for name, labels in samples if name == "fleet_process_up"} for samples in scraped]
    assert "openai_01" in names[0] and "openai_01" not in names[1]
    assert "groq_00" in names[1] and "groq_00" not in names[0]


SCRAPE = "curl -fsS http://127.0.0.1:8020/metrics"


def samples_of(text: str) -> list[tuple[str, dict[str, str]]]:
    return [
        (sample.name, sample.labels)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


def test_all_logs_are_in_one_folder_and_its_group_reads_them(machine: Machine) -> None:
    logs = {path.name: mode(path) for path in machine.logs.iterdir() if path.is_file()}
    assert {"openai_00.log", "openai_00.stdout.log", "supervisord.log", "worker_production.log"} <= logs.keys()
    assert set(logs.values()) == {0o640}


def test_installing_again_changes_nothing(machine: Machine) -> None:
    before, release, releases = machine.environment.read_text("utf-8"), machine.current, made(machine)
    again = machine.run("sudo scripts/install.sh")
    assert again.returncode == 0 and machine.environment.read_text("utf-8") == before
    assert machine.current == release and made(machine) == releases
    assert "until it is renewed" not in again.stdout


def test_the_doctor_names_what_makes_pipelines_fail(machine: Machine, fleet: Fleet) -> None:
    fleet.add_project("nameless", {"name": None})
    assert machine.run("fleet run Kávovar --project nameless").returncode == 1
    ill = machine.run("fleet doctor --json")
    assert ill.returncode == 1
    checks = {check["what"]: check for check in json_of(ill.stdout)["checks"] if not check["ok"]}
    assert checks.keys() == {"pipelines", "assistants of nameless"}
    assert "nameless-" in checks["pipelines"]["says"]
    for check in checks.values():
        assert "Asistent nemá název - databáze poškozená" in check["says"] and check["remedy"]
    fleet.backend("UPDATE Assistant SET name='...' WHERE name IS NULL")
    assert machine.run("fleet run Kávovar --project nameless").returncode == 0
    well = machine.run("fleet doctor")
    assert well.returncode == 0 and "others have completed since" in well.stdout, well.stdout


def journaled_by(machine: Machine, project: str) -> set[int]:
    """The pids of those that have called openai for a project."""
    with contextlib.closing(sqlite3.connect(machine.state / "journal/openai.db")) as journal:
        rows = journal.execute("SELECT DISTINCT pid FROM calls WHERE workflow_id LIKE ?", (f"{project}-%",))
        return {pid for (pid,) in rows}


def test_an_update_renews_all_and_pipelines_go_through_it_without_losing_an_attempt(
    machine: Machine, fleet: Fleet
) -> None:
    before, release, main, elsewhere = machine.pids(), machine.current, machine.unit("MainPID"), fleet.pids()
    (machine.checkout / ".env").write_text("OPENAI_API_KEY=a-developers-own\n", "utf-8")
    (machine.checkout / "notes.txt").write_text("a developer's own\n", "utf-8")
    fleet.add_project("through-update", {}, {}, {})
    fleet.simulator.clear()
    assert fleet.supervisorctl("stop", "openai:*").returncode == 0  # all of its calls are this machine's
    try:
        with fleet.latency("openai", 1.0):
            publish(machine, "README.md", "# assistant-fleet", "# assistant-fleet, newer")
            releases = made(machine)
            updating = machine.start("sudo scripts/update.sh --ref main")
            wait_for("the release is made", lambda: made(machine) - releases, STEP_SECONDS)
            outcomes = run_until(fleet, lambda: updating.poll() is not None)
            said, wrong = updating.communicate(timeout=STEP_SECONDS)
            assert updating.returncode == 0, said + wrong
            outcomes.append(json_of(machine.run("fleet run Kávovar --project through-update --json").stdout))
    finally:
        fleet.supervisorctl("start", "openai:*")
    assert machine.current != release and f"updated from {release}" in said
    after = machine.pids()
    assert after.keys() == before.keys() and all(after[name] != before[name] for name in before)
    assert machine.unit("MainPID") == main, "supervisord is renewed by a restart only"
    current = machine.root / "opt/seo-worker/releases" / machine.current
    assert not (current / ".env").exists() and not (current / "notes.txt").exists()
    assert {outcome["status"] for outcome in outcomes} == {"completed"}
    attempts = [assistant["attempts"] for outcome in outcomes for assistant in outcome["assistants"]]
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
    release = Path("/opt/seo-worker/releases", machine.current)
    assert (machine.state / ".venv").readlink() == release / ".venv"
    ask = "import sys, fleet; print(fleet.__file__, *sys.path)"
    paths = [Path(word) for word in machine.does(f"/var/lib/seo-worker/.venv/bin/python -P -c '{ask}'").split()]
    assert not any(path.is_relative_to("/var/lib") for path in paths), "a link that the next roll turns"
    assert paths[0].is_relative_to(release) and any(path.name == "site-packages" for path in paths)


def test_a_release_that_open_pipelines_could_not_go_on_with_is_refused(machine: Machine, fleet: Fleet) -> None:
    release, pids = machine.current, machine.pids()
    assert machine.run("fleet pause openai").returncode == 0
    fleet.add_project("open", {})
    started = machine.run("fleet run Kávovar --project open --no-wait --json")
    workflow = json_of(started.stdout)["workflow_id"]
    wait_for("its call waits", lambda: backlog(fleet, "llm-openai"))
    publish(machine, "fleet/contracts.py", '"load_assistants_from_database"', '"load_assistants_elsewhere"')
    refused = machine.run("sudo scripts/update.sh --ref main")
    assert refused.returncode == 1 and "refused" in refused.stderr, refused.stdout + refused.stderr
    assert f"{workflow}: " in refused.stderr and "0.1.0-pipeline-completed: " in refused.stderr
    assert machine.current == release and machine.pids() == pids
    assert machine.run("fleet resume openai").returncode == 0
    publish(machine, "fleet/contracts.py", '"load_assistants_elsewhere"', '"load_assistants_from_database"')


def backlog(fleet: Fleet, name: str) -> int:
    (found,) = (queue["backlog"] for queue in fleet.status()["queues"] if queue["queue"] == name)
    return int(found)


def test_a_release_that_does_not_come_up_gives_way_to_the_old_one(machine: Machine) -> None:
    """The stand-in of one program does not come up, and no process has been renewed."""
    release, before = machine.current, machine.pids()
    publish(
        machine, "workers/assistants.py", '    run_temporal_process("assistants", life)', "    raise SystemExit(3)"
    )
    back = machine.run("sudo scripts/update.sh --ref main")
    assert back.returncode == 1 and f"back on {release}" in back.stderr, back.stdout + back.stderr
    assert machine.current == release
    machine.wait_until_well()
    after = machine.pids()
    assert after.keys() == before.keys()
    assert {name for name in before if after[name] != before[name]} == set()
    done = machine.run("fleet run Kávovar --project seo-demo --json")
    assert json_of(done.stdout)["status"] == "completed", done.stderr
