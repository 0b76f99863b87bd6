"""The image is built from the Dockerfile and its root is run; Buildah and systemd-nspawn are the engine."""

import json
import re
import shlex
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleet.config import PROJECT_ROOT
from tests.end_with_parent import done_if_killed
from tests.fleet import json_of
from tests.loopback import answers
from tests.machines import Servers, addresses, running_servers
from tests.ports import free_port_base
from tests.waiting import wait_for

DOCKER = PROJECT_ROOT / "deploy" / "docker"
STEP_SECONDS = 900
#: The name in the Dockerfile. Debian with its own Python stands in for it.
BASE = "docker.io/library/python:3.12-slim"
IMAGE = "localhost/assistant-fleet"


@dataclass
class Engine:
    """Buildah with a storage of its own, in a folder."""

    folder: Path

    def command(self, *words: str) -> list[str]:
        places = ["--root", str(self.folder / "storage"), "--runroot", str(self.folder / "run")]
        return ["buildah", *places, *words]

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            self.command(*words),
            cwd=PROJECT_ROOT,
            capture_output=True,
            text=True,
            timeout=STEP_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{shlex.join(words)}: {done.stdout} {done.stderr}"
        return done.stdout.strip()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path / "engine")
    tidy = [
        "sh",
        "-c",
        f"{shlex.join(engine.command('umount', '--all'))}; {shlex.join(engine.command('rm', '--all'))}",
    ]
    with done_if_killed(tidy, {}):
        try:
            yield engine
        finally:
            subprocess.run(tidy, capture_output=True, check=False)
            subprocess.run(["umount", str(engine.folder / "storage/overlay")], capture_output=True, check=False)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    with running_servers(tmp_path / "servers") as running:
        yield running


def built(engine: Engine) -> dict[str, Any]:
    """Build the image; its configuration. Source: OCI image specification, config."""
    made = subprocess.run(
        [str(PROJECT_ROOT / "scripts/machines.sh"), "base"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    system, wheels = made.stdout.split()
    container = engine("from", "scratch")
    subprocess.run(["cp", "-a", f"{system}/.", engine("mount", container)], check=True)
    engine("commit", "--quiet", "--rm", container, BASE)
    # The steps' pip has the wheels that this host's has fetched.
    packages = [f"--volume={wheels}/{place}:/{place}:ro" for place in ("srv/wheels", "etc/pip.conf")]
    options = ["--isolation", "chroot", "--pull-never", "--network", "host", "--format", "docker", *packages]
    engine("bud", *options, "--file", str(DOCKER / "Dockerfile"), "--tag", IMAGE, ".")
    answer: dict[str, Any] = json.loads(engine("inspect", "--type", "image", IMAGE))["Docker"]["config"]
    return answer


@pytest.mark.debian
@pytest.mark.timeout(2 * STEP_SECONDS)
def test_the_image_is_built_comes_up_runs_a_pipeline_and_ends_when_told(
    engine: Engine, servers: Servers, tmp_path: Path
) -> None:
    image, port = built(engine), free_port_base()
    assert image["Cmd"] == ["fleet", "supervise"] and image["Healthcheck"]["Test"] == ["CMD", "fleet", "health"]
    assert image["User"] == "seo-worker" and image["StopSignal"] == "SIGTERM"
    assert list(image["Volumes"]) == ["/var/lib/seo-worker"]
    settings = addresses("127.0.0.1", servers.port_base) | {
        "FLEET_CONTROL_HOST": compose("FLEET_CONTROL_HOST"),
        "FLEET_CONTROL_PORT": str(port),
    }
    variables = [*image["Env"], *(f"{name}={value}" for name, value in settings.items())]
    root = Path(engine("mount", engine("from", IMAGE)))
    user = root.joinpath("etc/passwd").read_text("utf-8").partition(f"{image['User']}:x:")[2].split(":")[0]
    state = tmp_path / "volume"  # a new volume has the rights of the folder that it takes the place of
    subprocess.run(["cp", "-a", f"{root}/var/lib/seo-worker", str(state)], check=True)
    with (tmp_path / "container.log").open("w") as log:
        container = subprocess.Popen(
            ["systemd-nspawn", "-q", "-D", str(root), "--register=no", "--keep-unit", "--console=pipe"]
            + [*confinement(), f"--bind={state}:/var/lib/seo-worker"]
            + ["--resolv-conf=off", "--timezone=off", f"--user={image['User']}", f"--chdir={image['WorkingDir']}"]
            + [f"--setenv={variable}" for variable in variables]
            + image["Cmd"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )

    def first_process() -> int:
        """The pid of the image's command on this host."""
        return int(Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text("ascii").split()[0])

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        """As `docker exec` does it."""
        enter = ["nsenter", "-t", str(first_process()), "-m", "-u", "-i", "-p", "-S", user]
        command = [*enter, "env", "-i", "-C", image["WorkingDir"], *variables, *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    try:
        wait_for("it is well", lambda: answers(f"http://127.0.0.1:{port}/health"))
        health = run(*image["Healthcheck"]["Test"][1:])
        assert health.returncode == 0, health.stdout + health.stderr
        rights = re.findall(r"^(NoNewPrivs|CapBnd):\t(\w+)$", status_of(first_process()), re.MULTILINE)
        assert dict(rights) == {"CapBnd": "0" * 16, "NoNewPrivs": "1"}
        for place in ("/", "/opt/seo-worker/fleet", "/etc", "/var/lib"):
            assert "Read-only file system" in run("touch", f"{place}/new").stderr
        done = run("fleet", "run", "Kávovar", "--project", "seo-demo", "--json")
        assert json_of(done.stdout)["status"] == "completed", done.stderr
        # As another container of the project scrapes it: not by its loopback address.
        answer = httpx.get(f"http://{outer_address()}:{port}/metrics", trust_env=False, timeout=20)
        assert answer.status_code == 200 and "fleet_process_up{" in answer.text
        subprocess.run(["kill", "-TERM", str(first_process())], check=True)
        assert container.wait(120) == 0
    finally:
        if container.poll() is None:
            subprocess.run(["kill", "-KILL", str(first_process())], check=True)
            container.wait(30)


def confinement() -> list[str]:
    """The options of systemd-nspawn for what the compose file withholds from the container."""
    options = {
        "read_only: true": "--read-only",
        "cap_drop: [ALL]": "--drop-capability=all",
        'security_opt: ["no-new-privileges:true"]': "--no-new-privileges=yes",
        "tmpfs:\n      - /tmp": "--tmpfs=/tmp:mode=1777",
    }
    text = (DOCKER / "compose.yaml").read_text("utf-8")
    return [option for words, option in options.items() if f"    {words}\n" in text]


def status_of(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text("ascii")


def compose(name: str) -> str:
    """What the compose file sets a variable to."""
    (value,) = re.findall(rf"^ +{name}: (.+)$", (DOCKER / "compose.yaml").read_text("utf-8"), re.MULTILINE)
    return str(value)


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
    assert len(confinement()) == 4
    assert "- 127.0.0.1:8020:8020" in text, "the host's network does not reach it"


@pytest.mark.parametrize("name", ["vector.yaml", "fluent-bit.conf"])
def test_collectors_read_the_files_that_processes_write(name: str) -> None:
    text = (PROJECT_ROOT / "deploy" / "collectors" / name).read_text("utf-8")
    (pattern,) = re.findall(r"/var/log/seo-worker/(\S+?\.log)", text)
    assert Path("openai_00.log").match(pattern) and not Path("openai_00.stdout.log").match(pattern)
    assert not Path("worker_production.log").match(pattern)
    assert shlex.split(pattern) == [pattern]
