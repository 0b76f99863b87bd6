"""A whole fleet on a Temporal server that wants a client certificate, and one on one that wants an API key."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from fleet.config import PROJECT_ROOT, load_settings
from fleet.devstack.simulated_settings import simulated_providers
from tests.commands import BIN
from tests.end_with_parent import done_if_killed
from tests.fleet import Fleet, json_of
from tests.ports import free_port_base
from tests.secured_servers import API_KEY, SecuredTemporal, secured_temporal
from tests.waiting import wait_for

pytestmark = pytest.mark.debian
RUN = ("run", "Jak vybrat kávovar", "--project", "seo-demo", "--json")


@pytest.fixture(scope="module")
def secured(stack: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredTemporal]:
    with secured_temporal(tmp_path_factory.mktemp("tls"), stack) as servers:
        yield servers


@pytest.fixture(scope="module", params=["with_certificate", "with_key"])
def behind_tls(
    request: pytest.FixtureRequest, secured: SecuredTemporal, stack: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """A fleet that reaches Temporal in one of the two ways."""
    providers = load_settings(api_base_url="http://localhost:1").providers.values()
    environment = {
        **secured.with_backend(),
        **simulated_providers(f"http://127.0.0.1:{stack + 3}", providers),
        **getattr(secured, request.param)(),
    }
    fleet = Fleet(tmp_path_factory.mktemp("secured") / "state", free_port_base(), environment)
    with done_if_killed([str(BIN / "fleet"), "down"], fleet.variables):
        options = ("--detach", "--external", "--real-providers", "--port-base", str(fleet.port_base))
        up = fleet.fleet("up", *options)
        assert up.returncode == 0, up.stderr
        yield fleet
        down = fleet.fleet("down")
        assert down.returncode == 0, down.stderr


def test_a_fleet_works_over_tls(behind_tls: Fleet, secured: SecuredTemporal) -> None:
    done = behind_tls.fleet(*RUN)
    assert done.returncode == 0, done.stderr
    result = json_of(done.stdout)
    assert (result["status"], len(result["assistants"])) == ("completed", 8)
    behind_tls.wait_until_well()
    scaled = behind_tls.fleet("scale", "openai", "2")
    assert scaled.returncode == 0, scaled.stderr
    secured.authority.sign("client")  # renewed, under the same names
    rolled = behind_tls.fleet("roll", "anthropic")
    assert rolled.returncode == 0, rolled.stderr
    limits = behind_tls.fleet("limits")
    assert limits.returncode == 0 and "llm-openai" in limits.stdout, limits.stderr
    behind_tls.wait_until_well()
    assert behind_tls.control("").status_code == 200
    again = behind_tls.fleet(*RUN)
    assert again.returncode == 0, again.stderr
    doctor = json_of(behind_tls.fleet("doctor", "--json").stdout)
    words = ("Temporal", "environment", "ackend", "API key", "token", "clock")
    found = {
        check["what"]: check["ok"] for check in doctor["checks"] if any(word in check["what"] for word in words)
    }
    assert len(found) > 10 and all(found.values()), doctor
    logs = "".join(path.read_text("utf-8") for path in (behind_tls.state / "logs").glob("*.log"))
    assert API_KEY not in logs


def test_a_worker_waits_for_a_renewed_certificate_and_says_so(
    secured: SecuredTemporal, idle: Fleet, stack: int
) -> None:
    client = secured.authority.sign("workers-client", days=-1)
    idle.environment = {
        "API_BASE_URL": f"http://127.0.0.1:{stack + 2}",
        **secured.with_certificate(client),
    }
    command = [sys.executable, "-P", "-m", "workers.assistants"]
    process = subprocess.Popen(command, env=idle.variables, cwd=PROJECT_ROOT)
    log = idle.state / "logs" / "assistants.log"

    def said(words: str) -> list[str]:
        lines = log.read_text("utf-8").splitlines() if log.exists() else []
        return [line for line in lines if words in line]

    try:
        (line, *_) = wait_for("it says so", lambda: said("Temporal server connection failed"))
        assert f"the client certificate {client.certificate} expired on " in line and " Remedy: renew it" in line
        secured.authority.sign("workers-client")
        wait_for("it polls", lambda: said("polls assistants on"))
    finally:
        process.terminate()
        assert process.wait(60) == 0
