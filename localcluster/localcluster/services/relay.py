"""Carries bytes between two TCP connections: half-closes pass through, a slow reader slows the writer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

CHUNK_BYTES = 64 * 1024


async def relay(
    client: tuple[asyncio.StreamReader, asyncio.StreamWriter], server: tuple[asyncio.StreamReader, asyncio.StreamWriter]
) -> None:
    """Until both directions have ended. A reset on one side resets the other: it must not look like an orderly end."""
    (client_in, client_out), (server_in, server_out) = client, server
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump(client_in, server_out))
            group.create_task(_pump(server_in, client_out))
    except* OSError:
        reset(client_out)
        reset(server_out)
    finally:
        for writer in (client_out, server_out):
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while chunk := await source.read(CHUNK_BYTES):
        sink.write(chunk)
        await sink.drain()
    if sink.can_write_eof():
        sink.write_eof()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, as a host without a listener would answer."""
    connection: socket.socket | None = writer.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
