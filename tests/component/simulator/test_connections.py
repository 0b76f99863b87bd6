"""A server closes connections that are idle; no call is sent into one that it is about to close."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fleet.config import load_settings
from fleet.errors import ProviderError
from fleet.failures import FailureKind
from fleet.provider_settings import KINDS
from fleet.providers.base import LlmRequest
from fleet.providers.registry import provider_factory
from tests.serving import serving

#: Common servers close a connection after five seconds; the moment before is the one that matters.
IDLE_SECONDS = 4.5
ANSWER = b"HTTP/1.1 400 no\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
REQUEST = LlmRequest("m", "Write.", "Topic", 0.7, None, 100, "key")


@asynccontextmanager
async def server_that_closes_idle_connections() -> AsyncIterator[str]:
    """It answers one request on each connection, and closes it when the next one comes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1]) for line in head.lower().splitlines() if line.startswith(b"content-length")
        )
        await reader.readexactly(length)
        writer.write(ANSWER)
        await reader.read(1)

    async with serving(serve) as place:
        yield f"http://{place}"


async def failure_kinds(name: str, base_url: str) -> list[FailureKind]:
    """What two calls with a pause between them come to."""
    settings = load_settings(api_base_url="http://localhost:1", providers={name: {"base_url": base_url}})
    client = provider_factory(settings.provider(name))("sim-key-12345678")
    found: list[FailureKind] = []
    for pause in (IDLE_SECONDS, 0.0):
        with pytest.raises(ProviderError) as caught:
            await client.complete(REQUEST, timeout_seconds=10)
        found.append(caught.value.failure_kind)
        await asyncio.sleep(pause)  # what is tested is exactly this time
    await client.close()
    return found


async def test_a_connection_that_the_server_may_be_closing_is_not_used() -> None:
    async with server_that_closes_idle_connections() as base_url:
        found = await asyncio.gather(*(failure_kinds(kind, base_url) for kind in KINDS))
    assert found == [[FailureKind.BAD_REQUEST, FailureKind.BAD_REQUEST]] * 3
