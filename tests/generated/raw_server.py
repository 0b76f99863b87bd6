"""A server whose answers are bytes: what stands on the wire is exactly what a test says, valid or not."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.serving import serving

_OK = "HTTP/1.1 200 OK"


@dataclass(frozen=True)
class Wire:
    """One answer as it stands on the wire; the connection is closed after it if ``closes``."""

    data: bytes
    closes: bool = False


class RawServer:
    """Gives each request the present ``answer``. It listens on a loopback address."""

    def __init__(self) -> None:
        self.answer = Wire(b"")
        self.address = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await self._one(reader, writer):
            pass

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length:")[2].split(b"\r\n")[0].strip()
        if length:
            await reader.readexactly(int(length))
        writer.write(self.answer.data)
        await writer.drain()
        return not self.answer.closes


@asynccontextmanager
async def raw_server() -> AsyncIterator[RawServer]:
    served = RawServer()
    async with serving(served.handle) as place:
        served.address = f"http://{place}"
        yield served


def as_json(body: Any) -> bytes:
    """JSON as a server may write it: Python's NaN and half surrogate pairs too, in ASCII."""
    return json.dumps(body).encode("ascii")


def answer(
    body: bytes, *headers: str, status: str = _OK, content_type: str = "application/json", kind: str = "whole"
) -> Wire:
    """An answer with this body. ``kind`` is how it is sent: ``whole``, ``gzip``, ``chunked``, ``half`` (the
    connection ends in the middle), ``until-close`` (no length)."""
    lines = [status, *headers]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    # What a server sends after an answer that has no body would be the beginning of its next one.
    closes = kind in ("half", "until-close") or status.split()[1] in ("204", "304")
    if kind == "gzip":
        body = gzip.compress(body, 1)
        lines.append("Content-Encoding: gzip")
    if kind == "chunked":
        lines.append("Transfer-Encoding: chunked")
        half = len(body) // 2
        parts = [part for part in (body[:half], body[half:]) if part]
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    elif kind != "until-close":
        lines.append(f"Content-Length: {len(body)}")
    if kind == "half":
        body = body[: len(body) // 2]
    head = "\r\n".join(lines).encode("latin-1", "replace")
    return Wire(head + b"\r\n\r\n" + body, closes)
