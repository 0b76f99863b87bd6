"""The Dockerfile's steps, taken one by one outside Docker, since no engine is at hand."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from fleet.cli.supervise import processes_of
from fleet.config import PROJECT_ROOT, load_settings
from fleet.control.home import Home
from fleet.devstack.environment import simulated_providers
from tests.fleet import BIN, json_of
from tests.loopback import answers
from tests.ports import free_port_base
from tests.waiting import wait_for

DOCKER = PROJECT_ROOT / "deploy" / "docker"
COMPILE_STEP = ".venv/bin/python -m compileall -q fleet workers"
#: The packages take long to install and are the test environment's own; that they install is what CI shows.
ENVIRONMENT_STEP = "bash -c 'source scripts/environment.sh && make_environment .venv base'"


def steps() -> list[tuple[str, str]]:
    lines = (DOCKER / "Dockerfile").read_text("utf-8").splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines if line and line[0] != "#")]


def built(folder: Path) -> tuple[dict[str, str], list[str], list[str]]:
    """Take the steps below a folder: the environment, the health check and the command of the image."""
    variables: dict[str, str] = {}
    health: list[str] = []
    command: list[str] = []
    for word, rest in steps():
        match word:
            case "COPY":
                *sources, target = rest.split()
                for source in map(PROJECT_ROOT.joinpath, sources):
                    place = folder / target / source.name if target.endswith("/") else folder / target
                    place.parent.mkdir(parents=True, exist_ok=True)
                    if source.is_dir():
                        shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__"))
                    else:
                        shutil.copy(source, place)
            case "RUN" if rest == COMPILE_STEP:
                subprocess.run([str(BIN / "python"), *COMPILE_STEP.split()[1:]], cwd=folder, check=True)
            case "RUN" if not rest.startswith("useradd"):
                assert rest == ENVIRONMENT_STEP
                assert (folder / "scripts/environment.sh").exists() and (folder / "requirements/base.txt").exists()
            case "ENV":
                variables |= dict(re.findall(r"(\w+)=(\S+)", rest))
            case "HEALTHCHECK":
                health = json.loads(rest.partition("CMD ")[2])
            case "CMD":
                command = json.loads(rest)
    return variables, health, command


def test_what_the_image_holds_comes_up_is_well_and_ends_when_told(stack: int, tmp_path: Path) -> None:
    image, state, port = tmp_path / "image", tmp_path / "volume", free_port_base()
    variables, health, command = built(image)
    assert (command, health) == (["fleet", "supervise"], ["fleet", "health"])
    assert variables["FLEET_STATE_DIR"] == "/var/lib/seo-worker"
    providers = load_settings(API_BASE_URL="http://localhost").providers.values()
    run_with = {
        **{name: value for name, value in os.environ.items() if not name.startswith("FLEET_")},
        "FLEET_STATE_DIR": str(state),
        "PYTHONPATH": str(image),
        "API_BASE_URL": f"http://127.0.0.1:{stack + 2}",
        "TEMPORAL_HOST": f"127.0.0.1:{stack}",
        "FLEET_CONTROL_PORT": str(port),
        "FLEET_CONTROL_HOST": compose("FLEET_CONTROL_HOST"),
        **simulated_providers(f"http://127.0.0.1:{stack + 3}", providers),
    }
    program = str(BIN / command[0])
    with (tmp_path / "container.log").open("w") as log:
        container = subprocess.Popen([program, *command[1:]], cwd=image, env=run_with, stdout=log, stderr=log)

    def asked(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *words], cwd=image, env=run_with, capture_output=True, text=True, timeout=60, check=False
        )

    try:
        wait_for("it is well", lambda: answers(f"http://127.0.0.1:{port}/health"), 90)
        assert asked(*health[1:]).returncode == 0
        status = json_of(asked("status", "--json").stdout)
        pids = [one["pid"] for one in status["processes"]]
        environment = Path(f"/proc/{pids[0]}/environ").read_text("utf-8")
        assert str(image) in environment
        assert set(pids) == set(processes_of(Home.at(state))), "those that a killed supervisord would leave behind"
        # As another container of the project scrapes it: not by its loopback address.
        answer = httpx.get(f"http://{outer_address()}:{port}/metrics", trust_env=False, timeout=20)
        assert answer.status_code == 200 and "fleet_process_up{" in answer.text
    finally:
        container.terminate()
        assert container.wait(120) == 0
    assert not any(Path("/proc", str(pid)).exists() for pid in pids)


def compose(name: str) -> str:
    """What the compose file sets a variable to."""
    (value,) = re.findall(rf"^ +{name}: (.+)$", (DOCKER / "compose.yaml").read_text("utf-8"), re.MULTILINE)
    return value


def outer_address() -> str:
    """An address of this machine that is not its loopback's, where it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent. Source: RFC 5737, an address for documentation
        except OSError:
            return "127.0.0.2"
        return str(probe.getsockname()[0])


def test_compose_gives_it_what_it_needs_and_time_to_drain() -> None:
    text = (DOCKER / "compose.yaml").read_text("utf-8")
    for needed in ("API_BASE_URL", "TEMPORAL_HOST", "stop_grace_period: 660s", "state:/var/lib/seo-worker"):
        assert needed in text
    assert "- 127.0.0.1:8020:8020" in text, "the host's network does not reach it"


@pytest.mark.parametrize("name", ["vector.yaml", "fluent-bit.conf"])
def test_collectors_read_the_files_that_processes_write(name: str) -> None:
    text = (PROJECT_ROOT / "deploy" / "collectors" / name).read_text("utf-8")
    (pattern,) = re.findall(r"/var/log/seo-worker/(\S+?\.log)", text)
    assert Path("openai_00.log").match(pattern) and not Path("openai_00.stdout.log").match(pattern)
    assert not Path("worker_production.log").match(pattern)
    assert shlex.split(pattern) == [pattern]
