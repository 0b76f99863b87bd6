"""A server in the event loop of a test, which ends with all its connections closed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handle: Handler, port: int = 0, **options: Any) -> AsyncIterator[str]:
    """Listen on 127.0.0.1, and give its ``host:port``. ``handle`` serves one connection, which is closed after it;
    a client may leave before. What still runs or is open at the end is ended: otherwise the loop ends before its
    connections do, and a later test is told of them."""
    open_ones: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await handle(reader, writer)
        finally:
            writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        del open_ones[writer]

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones[writer] = asyncio.create_task(served(reader, writer))

    listening = await asyncio.start_server(connected, "127.0.0.1", port, **options)
    host, number = listening.sockets[0].getsockname()
    try:
        yield f"{host}:{number}"
    finally:
        listening.close()
        for writer, task in open_ones.items():
            task.cancel()
            writer.transport.abort()
        closing = [writer.wait_closed() for writer in open_ones]
        outcomes = await asyncio.gather(*open_ones.values(), *closing, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception) and not isinstance(outcome, OSError):
            raise outcome
