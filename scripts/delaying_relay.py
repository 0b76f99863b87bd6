"""A TCP relay that delays all bytes in both directions. `scripts/machines.sh delay` redirects a machine's
connections to it, since not every kernel has netem:

    delaying_relay.py MILLISECONDS READY    listens on a free port of 127.0.0.1, writes it to the file READY
"""

import asyncio
import socket
import struct
import sys
import time
from pathlib import Path

_SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h
_CHUNK_BYTES = 65_536
#: Of one direction, on the way; who sends more waits.
_MAX_CHUNKS = 256


def port_before_redirection(connection: socket.socket) -> int:
    """The port to which the client connected."""
    address = connection.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, 16)
    return int(struct.unpack_from("!H", address, 2)[0])


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Write what comes from the reader, and its end, so many seconds later."""
    on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MAX_CHUNKS)

    async def receive() -> None:
        chunk = b"-"
        while chunk:
            chunk = await reader.read(_CHUNK_BYTES)
            await on_the_way.put((time.monotonic() + seconds, chunk))

    async with asyncio.TaskGroup() as group:
        group.create_task(receive())
        while True:
            due, chunk = await on_the_way.get()
            await asyncio.sleep(due - time.monotonic())
            if not chunk:
                writer.write_eof()
                return
            writer.write(chunk)
            await writer.drain()


async def serve(seconds: float, ready: Path) -> None:
    """Relay each connection until the process is killed."""

    async def relay(client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter) -> None:
        writers = [client_writer]
        try:
            port = port_before_redirection(client_writer.get_extra_info("socket"))
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
            writers.append(server_writer)
            async with asyncio.TaskGroup() as group:
                group.create_task(carry(client_reader, server_writer, seconds))
                group.create_task(carry(server_reader, client_writer, seconds))
        except* OSError:
            pass  # one of the two has ended the connection: so is the other's
        finally:
            for writer in writers:
                writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    ready.with_suffix(".new").write_text(f"{server.sockets[0].getsockname()[1]}\n", "utf-8")
    ready.with_suffix(".new").rename(ready)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1]) / 1000, Path(sys.argv[2])))
