"""Who is answered by the control process, and with what."""

import socket
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient
from starlette.types import Message

from fleet.config import Settings
from fleet.control.health.observer import Observer
from fleet.control.web.app import Views, create_app
from fleet.control.web.credentials import PageCredentials
from fleet.control.web.streams import MAX_VIEWERS, Pictures
from fleet.process.machine_id import machine_id

ELSEWHERE = ("192.0.2.7", 50_000)
HERE = ("127.0.0.1", 50_000)


def client(tmp_path: Path, address: tuple[str, int], host: str, **given: Any) -> TestClient:
    settings = Settings(
        API_BASE_URL="http://127.0.0.1:9", TEMPORAL_HOST="127.0.0.1:9", state_dir=tmp_path, **given
    )
    observer = Observer(settings)
    app = create_app(Views(settings, observer, Pictures(settings, observer)))
    return TestClient(app, base_url=f"http://{host}", client=address)


def reader(tmp_path: Path, address: tuple[str, int], host: str) -> TestClient:
    """A client with this user's token."""
    found = client(tmp_path, address, host)
    found.headers["authorization"] = f"Bearer {PageCredentials(tmp_path / 'page').token()}"
    return found


@pytest.mark.parametrize("path", ["/", "/page/page.js", "/api/state", "/api/pipeline?workflow_id=x&run_id=y"])
def test_the_page_is_for_its_machine_alone(tmp_path: Path, path: str) -> None:
    assert reader(tmp_path, ELSEWHERE, "127.0.0.1:8020").get(path).status_code == 403
    assert reader(tmp_path, HERE, "evil.example:8020").get(path).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1:8020", "localhost:8020", "[::1]:8020"])
def test_here_it_is_shown_and_strict(tmp_path: Path, host: str) -> None:
    answer = reader(tmp_path, HERE, host).get("/")
    assert answer.status_code == 200 and "default-src 'none'" in answer.headers["content-security-policy"]
    script = client(tmp_path, HERE, host).get("/page/page.js")
    assert script.status_code == 200 and "javascript" in script.headers["content-type"]


def test_other_machines_may_ask_how_it_is(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    health = client(tmp_path, ELSEWHERE, "vm-7:8020", control_allowed_hosts="vm-7").get("/health")
    assert health.status_code == 503 and any("Temporal" in problem for problem in health.json()["problems"])


def test_its_status_tells_which_machine_and_release_it_is(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    known = machine_id(tmp_path)
    found = client(tmp_path, ELSEWHERE, f"{socket.gethostname()}:8020").get("/status").json()
    assert found["machine"] == f"{socket.gethostname()}+{known}" and found["version"] == version("assistant-fleet")


def test_without_a_token_nobody_operates(tmp_path: Path) -> None:
    answer = client(tmp_path, HERE, "localhost:8020").post("/api/act", json={"action": "roll"})
    assert answer.status_code == 403 and "FLEET_CONTROL_TOKEN" in answer.json()["error"]


@pytest.mark.parametrize(
    "header", ["X-Forwarded-For", "x-forwarded-anything", "Forwarded", "Via", "X-Real-IP"], ids=str.lower
)
def test_what_a_proxy_passes_on_is_not_from_here(tmp_path: Path, header: str) -> None:
    answer = reader(tmp_path, HERE, "localhost:8020").get("/api/state", headers={header: "127.0.0.1"})
    assert answer.status_code == 403 and "ssh -L" in answer.json()["error"]


@pytest.mark.parametrize("host", ["[::1", "", "localhost:x", "user@localhost", "localhost:8020/", "a b", "[::1]x"])
@pytest.mark.parametrize("path", ["/", "/status", "/metrics", "/health"])
def test_a_malformed_host_is_refused_everywhere(tmp_path: Path, host: str, path: str) -> None:
    answer = client(tmp_path, HERE, "localhost:8020").get(path, headers={"host": host})
    assert answer.status_code == 400 and "Host" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/status", "/metrics", "/health", "/ready", "/nothing"])
@pytest.mark.parametrize("address", [HERE, ELSEWHERE], ids=["here", "elsewhere"])
def test_another_name_is_refused_on_open_paths_too(tmp_path: Path, path: str, address: tuple[str, int]) -> None:
    answer = client(tmp_path, address, "rebound.evil.example:8020").get(path)
    assert answer.status_code == 403 and answer.headers["x-content-type-options"] == "nosniff"
    if path != "/nothing":
        assert (
            "rebound.evil.example" in answer.json()["error"] and "FLEET_CONTROL_ALLOWED" in answer.json()["error"]
        )


@pytest.mark.parametrize(
    "host",
    [
        *("192.0.2.7", "192.0.2.7:8020", "[2001:db8::7]:8020", "fleet.localhost", socket.gethostname()),
        *("VM-7.example:8020", "vm-7.example.:8020", "vm-8.example", "proxy.example", "listens.example:1"),
    ],
)
def test_its_addresses_and_its_names_are_answered(tmp_path: Path, host: str) -> None:
    (tmp_path / "logs").mkdir()
    names = {
        "control_allowed_hosts": "vm-7.example, VM-8.example",
        "control_url": "https://proxy.example/vm-7",
        "control_host": "listens.example",
    }
    here = client(tmp_path, ELSEWHERE, "localhost", **names)
    assert here.get("/metrics", headers={"host": host}).status_code == 200
    assert here.get("/api/state", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("name", ["https://vm-7.example", "vm-7:8020", "a b/", "*", "*.example"])
def test_an_allowed_host_that_is_not_a_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValidationError, match=r"is not a host name\. Remedy: write it without"):
        client(tmp_path, HERE, "localhost", control_allowed_hosts=name)


@pytest.mark.parametrize(("path", "status"), [("/ready", 503), ("/", 403)])
async def test_a_monitor_without_a_host_is_answered_and_sees_no_page(
    tmp_path: Path, path: str, status: int
) -> None:
    (tmp_path / "logs").mkdir()
    scope = {
        "type": "http",
        "http_version": "1.0",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "headers": [],
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await client(tmp_path, HERE, "localhost:8020").app(scope | {"client": HERE, "scheme": "http"}, receive, send)
    assert sent[0]["status"] == status


async def test_the_number_of_viewers_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    settings = Settings(API_BASE_URL="http://127.0.0.1:9", TEMPORAL_HOST="127.0.0.1:9", state_dir=tmp_path)
    pictures = Pictures(settings, Observer(settings), state="{}", painted_at=1.0)
    viewers = [pictures.events() for _ in range(MAX_VIEWERS)]
    for viewer in viewers:
        assert not pictures.is_full and (await anext(viewer)).startswith("event: state")
    app = create_app(Views(settings, pictures.observer, pictures))
    token = {"authorization": f"Bearer {PageCredentials.of(settings).token()}"}
    late = TestClient(app, base_url="http://localhost:8020", client=HERE).get("/api/events", headers=token)
    assert late.status_code == 503 and "viewers" in late.json()["error"]
    await viewers.pop().aclose()
    assert not pictures.is_full
    for viewer in viewers:
        await viewer.aclose()


def test_refusals_and_errors_have_the_security_headers_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Observer, "snapshot", fail)
    token = reader(tmp_path, HERE, "localhost:8020").headers
    here = client(tmp_path, HERE, "localhost:8020")
    here = TestClient(here.app, base_url="http://localhost:8020", client=HERE, raise_server_exceptions=False)
    here.headers["authorization"] = token["authorization"]
    answers = {
        403: client(tmp_path, ELSEWHERE, "localhost:8020").get("/"),
        400: here.get("/", headers={"host": "[::1"}),
        404: here.get("/nothing"),
        405: here.put("/api/act"),
        500: here.get("/health"),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer" and answer.headers["cache-control"] == "no-store"


OPERATOR = "a-token-of-the-operator"


def operator(tmp_path: Path) -> TestClient:
    found = client(tmp_path, HERE, "localhost:8020", control_token=OPERATOR)
    found.headers["authorization"] = f"Bearer {OPERATOR}"
    return found


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [("/health", "POST", "GET, HEAD"), ("/login", "PUT", "GET, HEAD, POST"), ("/api/act", "GET", "POST")],
)
def test_another_method_is_answered_with_those_that_there_are(
    tmp_path: Path, path: str, method: str, allowed: str
) -> None:
    answer = operator(tmp_path).request(method, path)
    assert answer.status_code == 405 and answer.headers["allow"] == allowed and allowed in answer.json()["error"]


@pytest.mark.parametrize(
    "path", ["/nothing", "/page/nothing.js", "/page/%00.js", "/page/..%2fapp.py", "/page/a/b.js"]
)
def test_what_there_is_not_is_answered_with_where_to_look(tmp_path: Path, path: str) -> None:
    answer = operator(tmp_path).get(path)
    assert answer.status_code == 404 and "/openapi.json" in answer.json()["error"]


ORDERS = {
    "not JSON": ("{", "the order is not valid JSON. Remedy: send what /openapi.json describes"),
    "too deep": ("[" * 5000, "the order is not valid JSON"),
    "no object": ("[]", "unknown action. Remedy: send one of pause, resume, scale, roll"),
    "another action": ('{"action": "stop"}', "unknown action. Remedy: send one of pause"),
    "no program": ('{"action": "scale", "count": 1}', "the order names no program. Remedy: send it"),
    "no count": ('{"action": "scale", "program": "openai"}', "the order names no count"),
    "no number": (
        '{"action": "scale", "program": "openai", "count": true}',
        "count: Input should be a valid integer",
    ),
    "an option": ('{"action": "roll", "program": "--help"}', "program: String should match pattern"),
    "a misspelled field": (
        '{"action": "roll", "programm": "openai"}',
        "unknown field 'programm'. Remedy: leave it out",
    ),
}


@pytest.mark.parametrize(("order", "said"), ORDERS.values(), ids=ORDERS)
def test_an_order_that_is_not_valid_is_refused_in_one_line(tmp_path: Path, order: str, said: str) -> None:
    answer = operator(tmp_path).post("/api/act", content=order)
    assert answer.status_code == 400 and said in answer.json()["error"] and "\n" not in answer.json()["error"]


def test_an_order_that_is_too_large_is_refused(tmp_path: Path) -> None:
    answer = operator(tmp_path).post("/api/act", content=b"x" * 20_001)
    assert answer.status_code == 413 and "20,000 bytes" in answer.json()["error"]


def test_a_provider_that_there_is_not_is_no_failure_of_the_server(tmp_path: Path) -> None:
    answer = operator(tmp_path).post("/api/act", json={"action": "pause", "provider": "opnai"})
    assert answer.status_code == 409 and "opnai" in answer.json()["error"]


def test_who_asks_for_no_stream_gets_the_present_state_and_an_end(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    answer = reader(tmp_path, HERE, "localhost:8020").get("/api/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.startswith('event: state\ndata: {"at":') and "event: pipelines" in answer.text
    streamed = {"accept": "text/event-stream"}
    assert reader(tmp_path, HERE, "localhost:8020").head("/api/events", headers=streamed).status_code == 200


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/api/pipeline", 400, "no workflow_id"),
        ("/api/pipeline?workflow_id=", 400, "no workflow_id"),
        ("/api/pipeline?workflow_id=x", 503, "Temporal is away"),
        ("/api/progress?" + "&".join(["run=a~b"] * 41), 400, "more than 40 runs"),
    ],
)
def test_a_question_that_cannot_be_answered_says_why(tmp_path: Path, path: str, status: int, said: str) -> None:
    (tmp_path / "logs").mkdir()
    answer = reader(tmp_path, HERE, "localhost:8020").get(path)
    assert answer.status_code == status and said in answer.json()["error"]


async def test_a_client_that_leaves_while_it_sends_an_order_is_no_failure(tmp_path: Path) -> None:
    headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {OPERATOR}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/api/act", "headers": headers, "client": HERE}
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await operator(tmp_path).app(scope | {"query_string": b"", "scheme": "http"}, receive, send)
    assert sent[0]["status"] == 408
