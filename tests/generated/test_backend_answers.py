"""Whatever a backend answers over HTTP is used or refused by one line, and the same client is answered the next
time."""

import asyncio
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import strategies as st

from fleet.config import load_settings
from fleet.errors import BackendAnswerError, BackendError, BackendUnavailable
from fleet.execution.backend_client import Backend
from fleet.execution.load_assistants import load_project
from tests.generated.inputs import TEXTS, await_each, changed
from tests.generated.raw_server import RawServer, Wire, answer, as_json, raw_server
from tests.generated.test_projects import GOOD, NEARLY
from tests.serving import serving

KEY = "sim-key-12345678"
SECONDS = 20.0
GOOD_AFTER = 10
BODIES: dict[str, Any] = {
    "assistants": GOOD,
    "key": {"api_key": KEY},
    "health": {"status": "ok", "projects": {"demo": {"fingerprint": "0123456789ab", "problems": ["a: b"]}}},
}
STATUSES = st.sampled_from([200, 200, 200, 200, 201, 204, 301, 302, 400, 401, 403, 404, 422, 429, 500, 503, 999])
CONTENT_TYPES = st.sampled_from(
    ["application/json"] * 5
    + ["", "text/html", "application/json; charset=base64", ";;", "text/plain; charset=utf-7"]
)
HEADERS = st.sampled_from(
    ["Date", "Set-Cookie", "Location", "Content-Encoding", "Retry-After", "WWW-Authenticate"]
)
KINDS_OF_SENDING = st.sampled_from(["whole"] * 6 + ["gzip", "chunked", "half", "until-close"])


@st.composite
def answers(draw: st.DrawFn) -> tuple[str, Wire]:
    """A path, and an answer for it: the good one with changes, or bytes, with any status and headers."""
    path = draw(st.sampled_from(sorted(BODIES)))
    body = as_json(draw(changed(BODIES[path], *NEARLY, {"detail": "no\nmodel"}, "Not found", KEY + "\n")))
    if draw(st.integers(0, 9)) == 0:
        body = draw(st.binary(max_size=60) | st.just(b"[" * 5_000) | st.just(b"<html>") | st.just(b"9" * 5_000))
    headers = draw(st.lists(st.tuples(HEADERS, TEXTS), max_size=2))
    lines = [f"{name}: {value}" for name, value in headers if value.isprintable()]
    status = f"HTTP/1.1 {draw(STATUSES)} X"
    if draw(st.integers(0, 19)) == 0:
        status = draw(st.sampled_from(["HTTP/1.1 abc", "HTTP/9 200 OK", "", "SSH-2.0-x", "HTTP/1.1 200"]))
        return path, Wire(f"{status}\r\n\r\n".encode(), closes=True)
    sent = answer(body, *lines, status=status, content_type=draw(CONTENT_TYPES), kind=draw(KINDS_OF_SENDING))
    return path, sent


class Asking:
    """The client of one process, in front of a server."""

    def __init__(self, server: RawServer) -> None:
        self.server = server
        self.settings = load_settings(
            api_base_url=server.address, api_key_cache_seconds=0, backend_timeout_seconds=SECONDS
        )
        self.backend = Backend.from_settings(self.settings)
        self.inputs = 0

    async def ask(self, path: str) -> Any:
        match path:
            case "assistants":
                return await load_project(self.backend, self.settings, "demo")
            case "key":
                return await self.backend.api_key("openai", fresh=True)
        return await self.backend.health()

    async def check(self, given: tuple[str, Wire]) -> bool:
        """Whether the answer is used."""
        path, self.server.answer = given
        self.inputs += 1
        used = False
        try:
            found = await self.ask(path)
        except BackendError as error:
            assert len(error.message.splitlines()) == 1 and "Remedy: " in error.message, error.message
            assert KEY not in error.message
        else:
            used = True
            if path == "key":
                assert found.isascii() and found.isprintable() and found.strip() == found
        if self.inputs % GOOD_AFTER == 0:
            await self.check_good()
        return used

    async def check_good(self) -> None:
        for path, body in BODIES.items():
            self.server.answer = answer(as_json(body))
            found = await self.ask(path)
            assert found == KEY if path == "key" else found


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as running:
        yield running


@pytest.fixture
def asking(runner: asyncio.Runner) -> Iterator[Asking]:
    serving = raw_server()
    asking = Asking(runner.run(serving.__aenter__()))
    yield asking
    runner.run(asking.check_good())
    runner.run(asking.backend.aclose())
    runner.run(serving.__aexit__(None, None, None))


def test_any_answer_of_a_backend_is_used_or_refused_by_one_line(asking: Asking, runner: asyncio.Runner) -> None:
    known = [
        (path, answer(as_json(BODIES[path]), line)) for path in BODIES for line in ("Date: á", "Set-Cookie: a=á")
    ]
    await_each("backend answers", answers(), asking.check, runner, known, min_share=0.05)


def test_a_compressed_answer_is_not_read_to_its_end(asking: Asking, runner: asyncio.Runner) -> None:
    packer = zlib.compressobj(9, wbits=31)
    packed = b"".join([*(packer.compress(b" " * 10_000_000) for _ in range(10)), packer.flush()])
    asking.server.answer = answer(packed, "Content-Encoding: gzip")
    with pytest.raises(BackendAnswerError, match=r"more than .* Remedy: "):
        runner.run(asking.ask("assistants"))


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def test_an_answer_that_never_ends_is_bounded_by_the_deadline() -> None:
    async with serving(_drip) as place, Backend(f"http://{place}", timeout_seconds=0.3) as backend:
        with pytest.raises(BackendUnavailable, match=r"no complete answer within 0.3 s.* Remedy: "):
            await backend.health()
