"""The proxy example with a real nginx: it forwards the metrics to who shows a certificate, and nothing else."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from fleet.config import PROJECT_ROOT
from tests.certificates import Authority
from tests.control_server import control_settings, served_control
from tests.nginx import Site, running_nginx
from tests.ports import free_port_base

pytestmark = pytest.mark.debian

EXAMPLE = PROJECT_ROOT / "deploy" / "nginx" / "fleet-metrics.conf"


@dataclass(frozen=True)
class Proxy:
    """The proxy of the example; ``client`` shows the certificate that it wants, ``stranger`` none."""

    client: httpx.Client
    stranger: httpx.Client


def example_for(control: str, port: int, authority: Authority) -> str:
    """The shipped file with a test's addresses in place of its own."""
    server, text = authority.sign("server"), EXAMPLE.read_text("utf-8")
    for shipped, own in {
        "listen 9443": f"listen 127.0.0.1:{port}",
        "http://127.0.0.1:8020": control,
        "/etc/nginx/fleet/server.crt": str(server.certificate),
        "/etc/nginx/fleet/server.key": str(server.key),
        "/etc/nginx/fleet/prometheus-ca.crt": str(authority.certificate),
    }.items():
        assert shipped in text
        text = text.replace(shipped, own)
    return text


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder, port = tmp_path_factory.mktemp("proxy"), free_port_base()
    authority = Authority(folder)
    shown = authority.sign("prometheus")
    trusting = ssl.create_default_context(cafile=str(authority.certificate))
    showing = ssl.create_default_context(cafile=str(authority.certificate))
    showing.load_cert_chain(shown.certificate, shown.key)
    address = f"https://localhost:{port}"
    with (
        served_control(control_settings(folder)) as control,
        running_nginx(folder, Site(port, example_for(control, port, authority))),
        httpx.Client(base_url=address, verify=showing, trust_env=False) as client,
        httpx.Client(base_url=address, verify=trusting, trust_env=False) as stranger,
    ):
        assert httpx.get(f"{control}/status", trust_env=False).status_code == 200
        yield Proxy(client, stranger)


def test_the_metrics_come_through(proxy: Proxy) -> None:
    answer = proxy.client.get("/metrics")
    assert answer.status_code == 200 and "fleet_server_up" in answer.text
    assert answer.headers["content-type"].startswith("text/plain") and answer.headers["x-content-type-options"]


OTHERS = "/ /status /health /ready /api/state /api/act /page/page.js /login /metrics/ /metricsx"
DISGUISED = "/metrics/../status /metrics/..%2fstatus /metrics%2f..%2fstatus //status /metrics;/status"


@pytest.mark.parametrize("path", [*OTHERS.split(), *DISGUISED.split()])
def test_nothing_else_comes_through(proxy: Proxy, path: str) -> None:
    for method in ("GET", "POST"):
        # As it stands: a path in an address would be normalised.
        answer = proxy.client.request(method, "/", extensions={"target": path.encode()})
        assert answer.status_code == 404 and "nginx" in answer.text


def test_metrics_can_only_be_read(proxy: Proxy) -> None:
    assert proxy.client.post("/metrics", content=b"x").status_code == 403


def test_without_a_certificate_nothing_comes_through(proxy: Proxy) -> None:
    answer = proxy.stranger.get("/metrics")
    assert answer.status_code == 400 and "certificate" in answer.text
