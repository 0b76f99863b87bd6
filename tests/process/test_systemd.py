"""docs/deployment.md followed on a machine with systemd: it is installed, restarted, killed, updated, rebooted and
removed."""

import hashlib
import os
import tomllib
from collections.abc import Iterator

import pytest

from fleet.config import PROJECT_ROOT
from tests.commands import Command
from tests.fleet import json_of
from tests.machines import (
    HOST,
    QUICK_TO_NOTICE,
    STEP_SECONDS,
    Machine,
    Servers,
    addresses,
    running_machines,
    running_servers,
)
from tests.waiting import wait_for

#: Its first test waits for machines too.
pytestmark = [pytest.mark.debian, pytest.mark.timeout(1800)]

#: Three of them last as long as an update, whose roll waits for the one that is on its way.
SECONDS_OF_A_CALL = 8.0
FOLDERS = ("etc/seo-worker", "var/lib/seo-worker", "var/log/seo-worker")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with running_servers(tmp_path_factory.mktemp("servers")) as running:
        running.add_project("long", {}, {}, {})
        yield running


@pytest.fixture(scope="module")
def machine(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine where the guide's first steps have been done."""
    with running_machines(tmp_path_factory.mktemp("set") / "machines", 1) as (machine,):
        machine.configure(addresses(HOST, servers.port_base) | QUICK_TO_NOTICE)
        machine.does("sudo systemctl enable --now seo-worker")
        machine.wait_until_well()
        yield machine


def begin(servers: Servers) -> Command:
    """A pipeline of three calls, the first of which is on its way."""
    servers.simulator.clear()
    run = servers.start("run", "Kávovar", "--project", "long", "--json")
    wait_for("a call is on its way", lambda: servers.in_flight("openai"))
    return run


def test_the_doctor_finds_nothing_and_a_pipeline_completes(machine: Machine) -> None:
    said = machine.does("sudo fleet doctor")
    assert "problem" not in said
    done = json_of(machine.does("sudo fleet run Kávovar --project seo-demo --json"))
    assert done["status"] == "completed"


def test_another_user_reads_nothing_and_a_link_logs_in_once(machine: Machine) -> None:
    page, stranger = "http://127.0.0.1:8020", "runuser -u nobody --"
    asked = "curl -s -o /dev/null -w '%{http_code} %{url_effective}'"
    for path in ("/", "/api/state", "/api/events"):
        assert machine.does(f"{stranger} {asked} {page}{path}") == f"401 {page}{path}"
    assert HOST not in machine.does(f"{stranger} curl -s {page}/status"), "where Temporal and the backend are"
    assert machine.run(f"{stranger} cat /var/lib/seo-worker/page/token").returncode != 0
    assert machine.run(f"{stranger} ls /var/lib/seo-worker/page").returncode != 0
    link = machine.does("sudo fleet page").strip()
    assert link.startswith(f"{page}/login?code=")
    assert machine.does(f"{asked} -L -c /root/jar '{link}'") == f"200 {page}/"
    assert machine.does(f"{asked} -b /root/jar {page}/api/state") == f"200 {page}/api/state"
    assert machine.does(f"{asked} -L '{link}'").startswith("401 ")
    assert json_of(machine.does("sudo fleet top --json"))["host"]


def test_an_install_under_a_strict_umask_is_for_all_who_shall_use_it(machine: Machine) -> None:
    said = machine.does("cat /root/install.log")  # of scripts/machines.sh, which has installed it so
    assert "now set API_BASE_URL" in said and "systemctl enable --now seo-worker" in said
    assert machine.does("find /opt/seo-worker ! -type l ! -perm -o=r") == ""
    assert machine.does("find /opt/seo-worker ! -user root -o ! -type l -perm /6022") == ""
    assert machine.does("stat -c %U /var/tmp/pip.log").strip() == "seo-worker-build"
    modes = {
        "/usr/local/bin/fleet": "755",
        "/usr/local/bin/fleet-supervisorctl": "755",
        "/etc/seo-worker": "750",
        "/etc/seo-worker/environment": "640",
        "/var/lib/seo-worker": "700",
        "/var/log/seo-worker": "750",
    }
    assert machine.does(f"stat -c '%n %a' {' '.join(modes)}").split("\n")[:-1] == [*map(" ".join, modes.items())]


def test_systemd_holds_the_service_within_the_bounds_of_its_unit(machine: Machine) -> None:
    exposure = machine.does("systemd-analyze security --no-pager seo-worker").splitlines()[-1]
    assert float(exposure.split(":")[1].split()[0]) <= 1.4
    process = f"/proc/{machine.pids()['openai_00']}"
    status = machine.does(f"cat {process}/status").splitlines()
    bounds = dict(line.split(":\t", 1) for line in status if ":\t" in line)
    assert bounds["CapBnd"] == "0" * 16 and bounds["NoNewPrivs"] == "1" and bounds["Seccomp"] == "2"


def test_a_process_of_the_service_leaves_no_core_dump_and_cannot_exhaust_the_machine(machine: Machine) -> None:
    limits = machine.does(f"cat /proc/{machine.pids()['openai_00']}/limits").splitlines()
    (core,) = (line.split() for line in limits if line.startswith("Max core file size"))
    assert core[4:6] == ["0", "0"], "a core dump contains keys and texts"
    total_kb = int(machine.does("grep MemTotal /proc/meminfo").split()[1])
    assert 0 < int(machine.unit("MemoryMax")) <= 0.81 * 1024 * total_kb
    tasks = len(machine.does("ps -L -u seo-worker -o tid=").split())
    assert machine.unit("TasksMax") == "4096" and tasks < 1024, tasks
    assert machine.unit("OOMPolicy") == "continue", "supervisord replaces what the kernel ends"


def test_it_ends_cleanly_and_starts_again_in_the_middle_of_a_pipeline_and_loses_no_call(
    machine: Machine, servers: Servers
) -> None:
    with servers.latency("openai", 1.0):
        run = begin(servers)
        machine.does("sudo systemctl stop seo-worker")
        assert machine.unit("Result") == "success" and machine.run("pgrep -u seo-worker").stdout == ""
        machine.does("sudo systemctl start seo-worker")
        assert completed_with(run) == [1, 1, 1]
    assert [call["outcome"] for call in servers.simulator.ledger()] == ["answered"] * 3
    assert machine.unit("Result") == "success" and machine.unit("NRestarts") == "0"


def completed_with(run: Command) -> list[int]:
    """The attempts that each assistant of a pipeline needed that completed."""
    out, err = run.communicate(timeout=STEP_SECONDS)
    assert run.returncode == 0, err
    return [assistant["attempts"] for assistant in json_of(out)["assistants"]]


def test_a_killed_supervisord_is_back_by_itself_and_costs_no_call(machine: Machine, servers: Servers) -> None:
    with servers.latency("openai", 1.0):
        run = begin(servers)
        machine.does("kill -KILL $(fleet-supervisorctl pid)")
        assert completed_with(run) == [1, 1, 1]
    assert [call["outcome"] for call in servers.simulator.ledger()] == ["answered"] * 3
    wait_for("systemd has started it anew", lambda: machine.unit("NRestarts") == "1")
    machine.wait_until_well()


def test_an_update_from_the_release_before_and_one_back_to_it_renew_all_processes(
    machine: Machine, servers: Servers
) -> None:
    for ref, version in (("release-before", "0.1.0"), ("main", present_version())):
        update_in_the_middle_of_a_pipeline(machine, servers, ref)
        machine.wait_until_well()
        assert machine.current.partition("-")[0] == version
        done = json_of(machine.does("sudo fleet run Kávovar --project seo-demo --json"))
        assert done["status"] == "completed"


def update_in_the_middle_of_a_pipeline(machine: Machine, servers: Servers, ref: str) -> None:
    before, release, main = machine.pids(), machine.current, machine.unit("MainPID")
    with servers.latency("openai", SECONDS_OF_A_CALL):
        run = begin(servers)
        said = machine.does(f"sudo scripts/update.sh --ref {ref}")
        assert completed_with(run) == [1, 1, 1]
    assert [call["outcome"] for call in servers.simulator.ledger()] == ["answered"] * 3
    assert machine.current != release and f"updated from {release}" in said
    after = machine.pids()
    assert after.keys() == before.keys() and not {*after.values()} & {*before.values()}
    assert machine.unit("MainPID") == main, "supervisord is renewed by a restart only"


def present_version() -> str:
    found: str = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    return found


def test_after_a_power_cut_it_is_there_again(machine: Machine, servers: Servers) -> None:
    with servers.latency("openai", 120.0):
        run = begin(servers)
        machine.kill()
    machine.boot()
    machine.wait_until_well()
    assert completed_with(run) == [2, 1, 1]
    assert [call["outcome"] for call in servers.simulator.ledger()] == ["client_gone"] + ["answered"] * 3


def test_after_a_reboot_it_is_there_again_with_a_key_that_only_root_can_read(
    machine: Machine, servers: Servers
) -> None:
    key, passed_on = "a-key-of-root-alone-0123", "/run/credentials/seo-worker.service/openai.key"
    machine.does(f"mkdir -p /root/secrets && printf %s {key} >/root/secrets/openai.key")
    drop_in = "/etc/systemd/system/seo-worker.service.d/keys.conf"
    machine.does(f"printf '[Service]\\nLoadCredential=openai.key:/root/secrets/openai.key\\n' >{drop_in}")
    machine.does(f"chmod 644 {drop_in}")
    settings = machine.environment.read_text("utf-8")
    machine.environment.write_text(f"{settings}FLEET_PROVIDERS__OPENAI__API_KEY_FILE={passed_on}\n", "utf-8")
    servers.backend("DELETE FROM ApiKey WHERE provider = 'openai'")
    booted = machine.does("cat /proc/sys/kernel/random/boot_id")
    machine.reboot()
    assert machine.does("cat /proc/sys/kernel/random/boot_id") != booted
    machine.wait_until_well()
    servers.simulator.clear()
    done = json_of(machine.does("sudo fleet run Kávovar --project long --json"))
    assert done["status"] == "completed"
    assert {call["key"] for call in servers.simulator.ledger()} == {hashlib.sha256(key.encode()).hexdigest()[:12]}
    assert f"in {passed_on}, {len(key)} characters" in machine.does("sudo fleet doctor")
    assert machine.run(f"runuser -u nobody -- cat {passed_on}").returncode != 0
    assert machine.run(f"grep -r {key} /var/log/seo-worker /var/lib/seo-worker /etc/seo-worker").returncode == 1


def test_uninstalling_keeps_settings_journals_and_logs_until_it_is_purged(machine: Machine) -> None:
    assert "kept: " in machine.does("sudo scripts/install.sh --uninstall")
    assert all((machine.root / folder).is_dir() for folder in FOLDERS)
    assert (machine.state / "journal/openai.db").exists()
    gone = "opt/seo-worker", "usr/local/bin/fleet", "etc/systemd/system/seo-worker.service"
    assert not any(os.path.lexists(machine.root / path) for path in gone)
    assert machine.unit("LoadState") == "not-found" and machine.run("pgrep -u seo-worker").stdout == ""
    machine.does("sudo scripts/install.sh --uninstall --purge")
    assert not any((machine.root / folder).exists() for folder in FOLDERS)
    assert machine.run("getent passwd seo-worker").returncode == 2
