"""Every alert fires on a real Prometheus that scrapes a real fleet in which its cause was produced.

The windows are the shipped ones divided by 60, out of the same template; that of starts by 15, since three
starts of a process take longer than 15 s on a busy machine.
"""

import json
import os
import re
import signal
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from fleet.process.liveness import LivenessRecord, liveness_file
from scripts.render_rules import rendered
from tests.evidence import last_lines
from tests.fleet import Fleet, running_fleet
from tests.loopback import answers
from tests.monitoring.expressions import alerts
from tests.ports import free_port_base
from tests.waiting import wait_for

pytestmark = pytest.mark.debian

DIVIDED_BY, STARTS_DIVIDED_BY = 60, 15
STARTS = re.compile(r" +- record: job_instance_process:fleet_process_starts:increase15m\n(?: {8}.*\n)+")
LOG_DISK_MB = 48
ENVIRONMENT = {
    "FLEET_API_KEY_CACHE_SECONDS": "0",
    "FLEET_LOG_ROTATION_MB": "1",
    "FLEET_PROVIDERS__ANTHROPIC__TIMEOUT_SECONDS": "1",
    **{f"FLEET_PROVIDERS__{name}__KIND": "openai" for name in ("SICK", "SLOW", "SPARE")},
    **{f"FLEET_PROVIDERS__{name}__BASE_URL": "https://llm.invalid/v1" for name in ("SICK", "SLOW", "SPARE")},
}
SPARE_RESTARTS = 'ALERTS{alertname="FleetProcessRestarts", alertstate="firing", process="spare_00"}'
PROMETHEUS = """
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [rules.yml]
scrape_configs:
  - job_name: fleet
    static_configs: [{targets: ["127.0.0.1:%d"]}]
"""


@dataclass
class Prometheus:
    """A Prometheus that scrapes one fleet, and the alerts that it has been seen to fire."""

    address: str
    fired: set[str] = field(default_factory=set)
    _over: threading.Event = field(default_factory=threading.Event)

    def run_watching(self) -> None:
        while not self._over.wait(0.5):
            self.look()

    def look(self) -> None:
        answer = httpx.get(f"{self.address}/api/v1/alerts", trust_env=False, verify=False, timeout=10).json()
        self.fired |= {
            alert["labels"]["alertname"] for alert in answer["data"]["alerts"] if alert["state"] == "firing"
        }

    def end(self) -> None:
        self._over.set()

    def value(self, query: str) -> float | None:
        """An expression's first value now; None without any."""
        answer = httpx.get(
            f"{self.address}/api/v1/query", params={"query": query}, trust_env=False, verify=False
        ).json()
        found = answer["data"]["result"]
        return float(found[0]["value"][1]) if found else None


def shortened_rules() -> str:
    longer = STARTS.search(rendered(STARTS_DIVIDED_BY))
    assert longer is not None and "[1m]" in longer[0]
    return STARTS.sub(longer[0], rendered(DIVIDED_BY), count=1)


@contextmanager
def prometheus_of(fleet: Fleet, folder: Path) -> Iterator[Prometheus]:
    port = free_port_base()
    (folder / "rules.yml").write_text(shortened_rules(), "utf-8")
    (folder / "prometheus.yml").write_text(PROMETHEUS % (fleet.port_base + 4), "utf-8")
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    found = Prometheus(f"http://127.0.0.1:{port}")
    watching = threading.Thread(target=found.run_watching)
    try:
        wait_for("Prometheus is ready", lambda: answers(f"{found.address}/-/ready"))
        watching.start()
        yield found
    finally:
        found.end()
        if watching.is_alive():
            watching.join()
        process.terminate()
        process.wait(30)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A folder on a disk of its own that is soon full."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={LOG_DISK_MB}m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # whoever still writes there is ending


@dataclass(frozen=True)
class Watched:
    """A fleet whose logs lie on a small disk, and the Prometheus that scrapes it."""

    fleet: Fleet
    prometheus: Prometheus
    logs: Path

    def evidence(self, since: float) -> Iterator[tuple[str, str]]:
        """What went on since then; see :mod:`tests.evidence`."""
        yield "alerts that fired", ", ".join(sorted(self.prometheus.fired))
        yield from last_lines(self.logs, since)
        yield from self.fleet.evidence(since)

    def fires(self, *names: str) -> None:
        for name in names:
            wait_for(f"{name} fires", lambda name=name: name in self.prometheus.fired)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    with small_disk(folder / "logs") as logs:
        environment = ENVIRONMENT | {"FLEET_LOG_DIR": str(logs)}
        with running_fleet(folder / "state", environment) as fleet, prometheus_of(fleet, folder) as prometheus:
            yield Watched(fleet, prometheus, logs)


def calls_of(fleet: Fleet, provider: str, model: str, count: int) -> None:
    """A pipeline of so many assistants that call at once."""
    name = f"{provider}-{uuid.uuid4().hex[:8]}"
    row = {"model_provider": provider, "model": model, "max_tokens": 60, "input_keys": json.dumps(["topic"])}
    fleet.add_project(name, *[row] * count)
    started = fleet.fleet("run", "Kávovar", "--project", name, "--no-wait")
    assert started.returncode == 0, started.stderr


def key(fleet: Fleet, provider: str) -> None:
    """Give the embedded backend a key for an added provider."""
    fleet.backend("INSERT OR REPLACE INTO ApiKey VALUES (?, ?)", provider, f"sim-{provider}-key")


@pytest.mark.timeout(900)
def test_each_alert_fires_when_its_cause_is_there(watched: Watched) -> None:
    fleet, prometheus = watched.fleet, watched.prometheus
    wait_for("every program runs", fleet.all_run)
    wait_for("it was scraped for a window", lambda: prometheus.value("count_over_time(up[15s]) >= 15"))
    assert prometheus.fired <= {"FleetQueueDepth"}, "a fleet that is well fires nothing"
    begin_what_takes_its_time(fleet)
    calls_fail(watched)
    a_call_is_cut_off_and_sent_again(watched)
    processes_are_in_trouble(watched)
    watched.fires("FleetProviderProbing", "FleetBudgetStarved", "FleetQueueDepth", "FleetPipelineTooLong")
    the_disk_is_full(watched)
    what_everything_hangs_on_is_away(watched)
    # That one needs two machines; promtool tests it.
    assert prometheus.fired == set(alerts()) - {"FleetProjectsDiffer"}


def begin_what_takes_its_time(fleet: Fleet) -> None:
    """A sick provider, and one whose limit is nearly nothing."""
    for provider in ("sick", "slow", "spare"):
        key(fleet, provider)
    fleet.simulator.fault("sick", "500", rate=1.0)
    calls_of(fleet, "sick", "gpt-4o", 12)
    assert fleet.fleet("limits", "slow", "--tpm", "100").returncode == 0
    calls_of(fleet, "slow", "gpt-4o", 20)


def calls_fail(watched: Watched) -> None:
    """By errors of the assistants' own making, timeouts, a rejected key."""
    fleet = watched.fleet
    fleet.simulator.fault("openai", "400", rate=1.0)
    for _ in range(4):
        calls_of(fleet, "openai", "gpt-4o", 8)
    fleet.simulator.fault("anthropic", "hang", rate=1.0)
    calls_of(fleet, "anthropic", "claude-sonnet-4-6", 8)
    watched.fires("FleetProviderErrors", "FleetProviderTimeouts")
    fleet.simulator.fault("gemini", "401", rate=1.0)
    calls_of(fleet, "gemini", "gemini-2.5-flash", 2)
    watched.fires("FleetProviderParked")
    _clear_faults(fleet)


def a_call_is_cut_off_and_sent_again(watched: Watched) -> None:
    fleet = watched.fleet
    with fleet.latency("openai", 4.0):
        calls_of(fleet, "openai", "gpt-4o", 1)
        wait_for("the call is on its way", lambda: fleet.in_flight("openai"))
        os.kill(fleet.pids()["openai"], signal.SIGKILL)
        watched.fires("FleetPaidTwice")


def processes_are_in_trouble(watched: Watched) -> None:
    """One stands still, one dies again and again, one is stopped and its journal damaged."""
    fleet = watched.fleet
    still = fleet.pids()["gemini"]
    os.kill(still, signal.SIGSTOP)
    watched.fires("FleetEventLoopLag")
    with suppress(ProcessLookupError):  # it has been replaced by now
        os.kill(still, signal.SIGCONT)
    killed: set[int] = set()

    def restarts_are_told_of() -> bool:
        _kill_anew(fleet, killed)
        return watched.prometheus.value(SPARE_RESTARTS) is not None

    wait_for("FleetProcessRestarts fires", restarts_are_told_of)
    fleet.supervisorctl("stop", "spare:*")
    watched.fires("FleetProcessDown", "FleetQueueWithoutPollers")

    def damage_is_told_of() -> bool:
        _damage(fleet.state / "journal" / "spare.db")
        return "FleetJournalDown" in watched.prometheus.fired

    wait_for("FleetJournalDown fires", damage_is_told_of)


def the_disk_is_full(watched: Watched) -> None:
    """Nearly, and then wholly."""
    free = os.statvfs(watched.logs).f_bavail * os.statvfs(watched.logs).f_frsize
    ballast = watched.logs / "ballast"
    ballast.write_bytes(b"\0" * (free - 1_000_000))
    watched.fires("FleetDiskNearlyFull")
    with _full(ballast):
        watched.fires("FleetLogLinesDropped")
    ballast.unlink()


def what_everything_hangs_on_is_away(watched: Watched) -> None:
    """The way to the providers, the backend, supervisord, the control process."""
    fleet = watched.fleet
    with fleet.without("simulator"):
        calls_of(fleet, "openai", "gpt-4o", 8)
        watched.fires("FleetProcessUnreachable")
    with fleet.without("backend"):
        watched.fires("FleetServerUnreachable")
    socket = fleet.state / "supervisor.sock"
    socket.rename(socket.with_suffix(".away"))
    try:
        watched.fires("FleetSupervisorUnreachable")
    finally:
        socket.with_suffix(".away").rename(socket)
    fleet.supervisorctl("stop", "control:*")
    watched.fires("FleetInstanceDown")
    fleet.supervisorctl("start", "control:*")


@contextmanager
def _full(ballast: Path) -> Iterator[None]:
    """The disk stays full, whatever is rotated away."""
    over = threading.Event()

    def fill() -> None:
        with ballast.open("ab", buffering=0) as file:
            while not over.wait(0.05):
                _fill_up(file.write)

    filling = threading.Thread(target=fill)
    filling.start()
    try:
        yield
    finally:
        over.set()
        filling.join()


def _kill_anew(fleet: Fleet, killed: set[int]) -> None:
    """Kill a process once it has counted its start."""
    liveness = LivenessRecord.read(liveness_file(fleet.state, "spare_00"))
    if liveness is not None and liveness.pid not in killed:
        with suppress(ProcessLookupError):
            os.kill(liveness.pid, signal.SIGKILL)
        killed.add(liveness.pid)
        if len(killed) % 4 == 0:
            fleet.supervisorctl("start", "spare:*")  # supervisord may have given it up


def _damage(journal: Path) -> None:
    """Leave no database there. SQLite makes the file whole again out of what a killed process left beside it, or a
    reader that had it open."""
    damaged = b"no database " * 100
    if journal.read_bytes() == damaged:
        return
    for beside in ("-wal", "-shm"):
        journal.with_name(journal.name + beside).unlink(missing_ok=True)
    aside = journal.with_suffix(".damaged")
    aside.write_bytes(damaged)
    aside.replace(journal)


def _fill_up(write: Callable[[bytes], int]) -> None:
    size = 65_536
    while size:
        try:
            write(b"\0" * size)
        except OSError:
            size //= 8


def _clear_faults(fleet: Fleet) -> None:
    httpx.delete(f"{fleet.simulator.base_url}/faults", trust_env=False, verify=False).raise_for_status()
    fleet.simulator.fault("sick", "500", rate=1.0)
    fleet.simulator.fault("gemini", "401", rate=1.0)
