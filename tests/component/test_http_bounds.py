"""What a client of the fleet's HTTP server may take: connections, time and bytes, over real sockets."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from fleet.process.http_connections import BoundedProtocol, Bounds
from fleet.process.http_server import Server

SHORT = Bounds(
    connections=6,
    kept_for_this_machine=0,
    head_bytes=4096,
    head_seconds=0.4,
    body_seconds=0.4,
    idle_seconds=2,
    unread_seconds=0.5,
)
HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
#: Longer than a test may take.
LONG = 600.0
#: What is awaited for longer hangs. How soon it comes on a busy machine is not tested.
HANGS_SECONDS = 60.0
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class World:
    """A server on a free port: ``/`` answers at once, ``/slow`` when ``released`` is set, ``/large`` with 64 MB,
    ``/events`` with an event every 10 ms, ``/body`` with the length of the request's body."""

    def __init__(self, bounds: Bounds) -> None:
        self.released = asyncio.Event()
        self.slow = self.streams = 0
        handlers = {
            "/": self._at_once,
            "/slow": self._slow,
            "/large": self._large,
            "/events": self._events,
            "/body": self._body,
        }
        app = Starlette(routes=[Route(path, answer, methods=["GET", "POST"]) for path, answer in handlers.items()])
        self.server = Server(app, bounds)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.clients: list[asyncio.StreamWriter] = []
        self.writing: list[asyncio.Task[None]] = []

    async def _at_once(self, request: Request) -> Response:
        return JSONResponse(
            {"host": request.headers.get("host"), "client": request.client and request.client.host}
        )

    async def _slow(self, request: Request) -> Response:
        self.slow += 1
        await self.released.wait()
        return JSONResponse({})

    async def _large(self, request: Request) -> Response:
        return Response(b"x" * 64_000_000)

    async def _body(self, request: Request) -> Response:
        return JSONResponse({"bytes": len(await request.body())})

    async def _events(self, request: Request) -> Response:
        async def events() -> AsyncIterator[str]:
            self.streams += 1
            try:
                while True:
                    yield f"event: state\ndata: {'x' * 50_000}\n\n"
                    await asyncio.sleep(0.01)
            finally:
                self.streams -= 1

        return StreamingResponse(events(), media_type="text/event-stream")

    async def connect(self, text: str = "", buffer: int = 0) -> Connection:
        client = socket.socket()
        if buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, self.listening.getsockname())
        reader, writer = await asyncio.open_connection(sock=client, limit=2**16)
        writer.write(text.encode())
        self.clients.append(writer)
        return reader, writer

    def drip(self, writer: asyncio.StreamWriter, text: bytes) -> None:
        """Send it in small pieces."""
        self.writing.append(asyncio.create_task(_dripped(writer, text)))

    async def end(self) -> None:
        self.released.set()
        for task in self.writing:
            task.cancel()
        for writer in self.clients:
            writer.transport.abort()
        self.server.should_exit = True

    @property
    def open(self) -> int:
        return len(self.server.server_state.connections)


@asynccontextmanager
async def served(bounds: Bounds = SHORT) -> AsyncIterator[World]:
    world = World(bounds)
    serving = asyncio.create_task(world.server.serve(sockets=[world.listening]))
    try:
        await until("the server is up", lambda: world.server.started)
        yield world
    finally:
        await world.end()
        await serving


async def until(what: str, look: Callable[[], object], seconds: float = HANGS_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:g} s"
        await asyncio.sleep(0.01)


def get(path: str, *lines: str) -> str:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *lines, "", ""])


async def all_of(connection: Connection) -> str:
    """What the server sends until it closes the connection."""
    async with asyncio.timeout(HANGS_SECONDS):
        try:
            return (await connection[0].read()).decode()
        except ConnectionResetError:
            return ""


async def one_answer(connection: Connection) -> tuple[int, str]:
    async with asyncio.timeout(HANGS_SECONDS):
        head = (await connection[0].readuntil(b"\r\n\r\n")).decode()
        size = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
        return int(head.split()[1]), (await connection[0].readexactly(size)).decode()


def check_refusal(text: str, status: int, why: str) -> None:
    head, _, body = text.partition("\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} "), text
    assert why in json.loads(body)["error"] and "connection: close" in head.lower()
    for name, value in HEADERS.items():
        assert f"{name}: {value}" in head


@pytest.mark.parametrize("sent", ["", "GET / HT", get("/")[:-2]], ids=["nothing", "a part", "all but the end"])
async def test_who_does_not_finish_the_headers_is_answered_and_closed(sent: str) -> None:
    async with served() as world:
        began = time.monotonic()
        check_refusal(await all_of(await world.connect(sent)), 408, "headers")
        assert time.monotonic() - began >= SHORT.head_seconds


async def test_a_byte_at_a_time_does_not_prolong_the_time_for_the_headers() -> None:
    head_seconds = 5.0
    async with served(replace(SHORT, head_seconds=head_seconds)) as world:
        connection, began = await world.connect(), time.monotonic()
        while (
            time.monotonic() - began < 0.8 * head_seconds
        ):  # then it only reads: a byte too late resets the answer
            connection[1].write(b"x")
            await asyncio.sleep(0.02)
        check_refusal(await all_of(connection), 408, "headers")
        assert time.monotonic() - began < 1.6 * head_seconds


async def test_the_next_request_of_a_connection_is_bounded_too() -> None:
    async with served() as world:
        connection = await world.connect(get("/"))
        assert (await one_answer(connection))[0] == 200
        connection[1].write(b"GET / HTTP/1.1\r\n")
        check_refusal(await all_of(connection), 408, "headers")


async def test_an_idle_connection_is_closed_and_a_used_one_is_not() -> None:
    async with served(replace(SHORT, idle_seconds=3)) as world:
        connection = await world.connect()
        used = 0.0
        for _ in range(3):
            used = time.monotonic()
            connection[1].write(get("/").encode())
            assert (await one_answer(connection))[0] == 200
            await asyncio.sleep(0.2)
        assert await all_of(connection) == ""
        assert time.monotonic() - used >= 3
        await until("the server has forgotten it", lambda: world.open == 0)


@pytest.mark.parametrize("at_once", [True, False], ids=["in one piece", "in pieces"])
async def test_large_headers_are_refused(at_once: bool) -> None:
    async with served(replace(SHORT, head_seconds=LONG)) as world:
        reader, writer = await world.connect()
        text = get("/", *(f"X-{number}: {'y' * 500}" for number in range(50))).encode()
        if at_once:
            writer.write(text)
        else:
            world.drip(writer, text)
        check_refusal(await all_of((reader, writer)), 431, "4096 bytes")


async def _dripped(writer: asyncio.StreamWriter, text: bytes) -> None:
    for start in range(0, len(text), 300):
        writer.write(text[start : start + 300])
        await asyncio.sleep(0.001)


async def test_a_long_request_line_is_refused() -> None:
    async with served() as world:
        check_refusal(await all_of(await world.connect(get("/" + "a" * 20_000))), 431, "4096 bytes")


@pytest.mark.parametrize(
    "text",
    [
        "nonsense\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "\x16\x03\x01\r\n",
    ],
    ids=["nonsense", "without Host", "two Hosts", "TLS"],
)
async def test_what_is_not_http_is_answered_with_the_headers_of_all_answers(text: str) -> None:
    async with served() as world:
        check_refusal(await all_of(await world.connect(text)), 400, "not valid HTTP")


async def test_a_body_that_does_not_come_is_answered_and_closed() -> None:
    async with served() as world:
        text = get("/body", "Content-Length: 10").replace("GET", "POST") + "12345"
        check_refusal(await all_of(await world.connect(text)), 408, "body")


async def test_a_body_that_nobody_reads_does_not_hold_the_connection() -> None:
    async with served() as world:
        connection = await world.connect(get("/", "Content-Length: 1000000000"))
        assert (await one_answer(connection))[0] == 200
        world.drip(connection[1], b"x" * 1_000_000)
        assert await all_of(connection) == ""


async def test_a_broken_body_ends_the_connection() -> None:
    async with served() as world:
        text = get("/body", "Transfer-Encoding: chunked").replace("GET", "POST") + "nonsense\r\n"
        check_refusal(await all_of(await world.connect(text)), 400, "not valid HTTP")


@pytest.mark.parametrize("path", ["/large", "/events"])
async def test_who_does_not_read_the_answer_is_closed(path: str) -> None:
    async with served(replace(SHORT, idle_seconds=int(LONG))) as world:
        await world.connect(get(path), buffer=4096)
        await until("the server has given it up", lambda: world.open == 0 and world.streams == 0)


async def test_who_reads_the_events_is_not_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    paused: list[float] = []
    pause = BoundedProtocol.pause_writing

    def pause_writing(protocol: BoundedProtocol) -> None:
        paused.append(time.monotonic())
        pause(protocol)

    monkeypatch.setattr(BoundedProtocol, "pause_writing", pause_writing)
    async with served(replace(SHORT, unread_seconds=3)) as world:
        reader, writer = await world.connect(get("/events"), buffer=2**16)
        await until("the server waits for the client to read", lambda: paused)
        while time.monotonic() < paused[0] + 4:
            assert await reader.read(2**16)
        assert world.streams == 1
        writer.close()
        await until("the stream has ended", lambda: world.streams == 0)


async def test_connections_that_wait_for_their_client_make_room() -> None:
    async with served(replace(SHORT, head_seconds=LONG)) as world:
        silent = [await world.connect() for _ in range(4 * SHORT.connections)]
        for _ in range(3):
            assert (await one_answer(await world.connect(get("/"))))[0] == 200
            assert world.open <= SHORT.connections
        assert await all_of(silent[0]) == ""


async def test_slow_bodies_and_slow_readers_make_room_too() -> None:
    async with served(replace(SHORT, body_seconds=LONG, unread_seconds=LONG)) as world:
        body = get("/body", "Content-Length: 10").replace("GET", "POST")
        for _ in range(SHORT.connections // 2):
            await world.connect(body)
            await world.connect(get("/large"), buffer=4096)
        await until(
            "all are held", lambda: all(each.waits_for_client for each in world.server.server_state.connections)
        )
        assert world.open == SHORT.connections
        assert (await one_answer(await world.connect(get("/"))))[0] == 200


async def test_if_all_are_being_answered_the_next_gets_503() -> None:
    async with served() as world:
        busy = [await world.connect(get("/slow")) for _ in range(SHORT.connections)]
        await until("all are being answered", lambda: world.slow == SHORT.connections)
        for _ in range(3):
            text = await all_of(await world.connect(get("/")))
            check_refusal(text, 503, "all connections")
            assert "retry-after: 10" in text
        world.released.set()
        for connection in busy:
            assert (await one_answer(connection))[0] == 200
        assert (await one_answer(await world.connect(get("/"))))[0] == 200


async def test_other_machines_leave_room_for_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = True
    address = "uvicorn.protocols.http.h11_impl.get_remote_addr"
    monkeypatch.setattr(address, lambda _: ("192.0.2.7" if elsewhere else "127.0.0.1", 50_000))
    async with served(replace(SHORT, kept_for_this_machine=2)) as world:
        for _ in range(SHORT.connections - 2):
            await world.connect(get("/slow"))
        await until("they are being answered", lambda: world.slow == SHORT.connections - 2)
        assert (await one_answer(await world.connect(get("/"))))[0] == 503
        elsewhere = False
        assert (await one_answer(await world.connect(get("/"))))[0] == 200


async def test_another_machine_does_not_displace_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    address = "uvicorn.protocols.http.h11_impl.get_remote_addr"
    async with served(replace(SHORT, head_seconds=LONG)) as world:
        mine = await world.connect()
        await until("it is open", lambda: world.open == 1)
        monkeypatch.setattr(address, lambda _: ("192.0.2.7", 50_000))
        for _ in range(3 * SHORT.connections):
            await world.connect()
        await until("the bound is reached", lambda: world.open == SHORT.connections)
        mine[1].write(get("/").encode())
        assert (await one_answer(mine))[0] == 200


async def test_a_connection_is_not_upgraded_out_of_the_bounds() -> None:
    async with served() as world:
        websocket = (
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: eA==",
        )
        assert (await one_answer(await world.connect(get("/", *websocket))))[0] == 200


async def test_a_client_cannot_say_where_it_is() -> None:
    async with served() as world:
        status, text = await one_answer(await world.connect(get("/", "X-Forwarded-For: 192.0.2.7")))
        assert status == 200 and json.loads(text)["client"] == "127.0.0.1"
