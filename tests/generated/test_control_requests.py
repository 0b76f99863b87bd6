"""Whatever is sent to the control process over HTTP is answered, never with a server error of its own."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import strategies as st

from fleet.config import Settings
from fleet.control.health.observer import Observer
from fleet.control.web.app import Views, create_app
from fleet.control.web.streams import Pictures
from fleet.devstack.threaded_server import served
from fleet.errors import OperationError
from tests.generated.inputs import TEXTS, changed, check_each

TOKEN = "control-token-0123456789"
PATHS = st.sampled_from(
    [
        "/",
        "/health",
        "/ready",
        "/status",
        "/metrics",
        "/api/state",
        "/api/pipelines",
        "/api/pipeline",
        "/api/act",
        "/api/progress",
        "/login",
        "/logout",
        "/page/page.js",
        "/page/../app.py",
        "/page/%2e%2e/app.py",
        "//",
        "*",
    ]
)
METHODS = st.sampled_from(["GET"] * 4 + ["POST", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "BREW"])
QUERIES = st.lists(
    st.tuples(
        st.sampled_from(["workflow_id", "run_id", "token", "limit", "state", "since", "project", "key", "text"]),
        TEXTS | st.sampled_from(["-1", "9" * 30, "%00", "&&", "a' OR ''='"]),
    ),
    max_size=3,
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "Authorization",
                "Cookie",
                "Content-Type",
                "Origin",
                "Accept",
                "Range",
                "Host",
                "Forwarded",
                "If-None-Match",
                "Content-Length",
                "Transfer-Encoding",
                "Sec-Fetch-Site",
            ]
        ),
        TEXTS
        | st.sampled_from(
            [
                f"Bearer {TOKEN}",
                "Bearer ",
                "Basic Og==",
                "application/json",
                "application/x-www-form-urlencoded",
                "multipart/form-data; boundary=",
                "text/plain; charset=base64",
                "session=",
                "fleet_session=" + "x" * 5_000,
                "null",
                "http://evil.example",
                "bytes=0-",
                "chunked",
                "5",
                "localhost",
            ]
        ),
    ),
    max_size=3,
)
GOOD = {"action": "scale", "program": "openai", "count": 2, "why": "x", "provider": "openai"}
BODIES = (
    changed(GOOD, "roll", "pause", "resume", "-x", 10**30).map(json.dumps).map(str.encode)
    | st.binary(max_size=50)
    | st.just(b"[" * 5_000)
    | st.just(b"token=" + TOKEN.encode())
    | st.just(b"x" * 300_000)
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, bool]:
    """A request as it stands on the wire, and whether its body is as long as it says."""
    method, path = draw(METHODS), draw(PATHS)
    query = "&".join(f"{name}={value}" for name, value in draw(QUERIES))
    target = "".join(character for character in f"{path}?{query}" if character.isprintable() and character != " ")
    headers = [(name, value) for name, value in draw(HEADERS) if value.isprintable()]
    names = {name.lower() for name, _ in headers}
    if "host" not in names:
        headers.append(("Host", "localhost"))
    body = draw(BODIES) if method in ("POST", "PUT") else b""
    if body and not names & {"content-length", "transfer-encoding"}:
        headers.append(("Content-Length", str(len(body))))
    if draw(st.booleans()):
        headers.append(("Authorization", f"Bearer {TOKEN}"))
    head = "\r\n".join([f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)])
    complete = not names & {"content-length", "transfer-encoding"}
    return head.encode("utf-8", "replace") + b"\r\nConnection: close\r\n\r\n" + body, complete


class Control:
    """The application of a control process, served over HTTP; nothing behind it is up."""

    def __init__(self, address: str) -> None:
        self.host, _, port = address.removeprefix("http://").partition(":")
        self.port = int(port)
        self.address = address
        self.inputs = 0

    def check(self, request: tuple[bytes, bool]) -> bool:
        """Whether the request is accepted."""
        wire, complete = request
        status, answer = self.sent(wire, half_close=not complete)
        assert (status or not complete) and status not in (500, 501, 502), answer[:2_000]
        assert b"Traceback" not in answer
        if answer and b"invalid http request" not in answer.lower():
            assert b"x-content-type-options: nosniff" in answer.lower(), answer[:2_000]
        self.inputs += 1
        if self.inputs % 20 == 0:
            self.check_good()
        return 0 < status < 400

    def sent(self, wire: bytes, *, half_close: bool) -> tuple[int, bytes]:
        """The status and the whole answer; the connection is closed after it."""
        with socket.create_connection((self.host, self.port), 10) as connection:
            connection.settimeout(20)
            try:
                connection.sendall(wire)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
            except OSError:  # it has answered already, and does not read the rest
                pass
            answer = b""
            try:
                while part := connection.recv(65_536):
                    answer += part
            except ConnectionResetError:
                pass
        first = answer.split(b"\r\n", 1)[0].split()
        return (int(first[1]) if len(first) > 1 else 0), answer

    def check_good(self) -> None:
        answer = httpx.get(f"{self.address}/ready", trust_env=False, timeout=30, verify=False)
        assert answer.status_code == 503 and answer.json()["ready"] is False


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Control]:
    async def not_carried_out(*arguments: Any) -> str:
        raise OperationError("no fleet is up. Remedy: start one")

    # An order would start processes of the machine that runs the tests.
    monkeypatch.setattr("fleet.control.web.operator_actions._command", not_carried_out)
    (tmp_path / "logs").mkdir()
    settings = Settings(
        API_BASE_URL="http://127.0.0.1:9", TEMPORAL_HOST="127.0.0.1:9", state_dir=tmp_path, control_token=TOKEN
    )
    observer = Observer(settings)
    with served(create_app(Views(settings, observer, Pictures(settings, observer)))) as address:
        yield Control(address)


@pytest.mark.timeout(300)
def test_any_request_is_answered_without_an_error_of_the_server(control: Control) -> None:
    head = f"POST /api/act HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n"
    bodies = (b"[" * 5_000, b"{", b"\xff", b"x" * 300_000, b"5", b"")
    known = [(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body, True) for body in bodies]
    for (wire, _), body in zip(known, bodies, strict=True):
        status, answer = control.sent(wire, half_close=False)
        assert status == (413 if len(body) > 20_000 else 400) and b"Remedy: " in answer, answer
    check_each("control requests", requests(), control.check, known, min_share=0.05)
    control.check_good()
