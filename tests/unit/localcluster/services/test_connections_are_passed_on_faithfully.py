"""The relay on real sockets: half-close, reset, and a slow reader that holds the writer back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from localcluster.services.relay import relay, reset

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await asyncio.wait([asyncio.ensure_future(writer.wait_closed())])


@asynccontextmanager
async def relayed(
    backend: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[Streams]:
    """A client's streams, with a relay between it and `backend`. Leaves no task and no connection behind."""
    serving: list[asyncio.Task[None]] = []

    def as_a_task(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> Any:
        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            serving.append(asyncio.ensure_future(serve(reader, writer)))

        return connected

    async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await relay((reader, writer), await asyncio.open_connection(*behind.sockets[0].getsockname()))

    behind = await asyncio.start_server(as_a_task(backend), "127.0.0.1", 0)
    front = await asyncio.start_server(as_a_task(passed_on), "127.0.0.1", 0)
    client = await asyncio.open_connection(*front.sockets[0].getsockname())
    yield client
    await close(client[1])
    # Both ends now find their connection closed. A server's own wait_closed does not wait for them in Python 3.11.
    await asyncio.gather(*serving)
    for server in (front, behind):
        server.close()
        await server.wait_closed()


async def test_a_half_close_reaches_the_server_and_the_answer_the_client() -> None:
    async def backend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        everything = await reader.read()  # ends only when the client has half-closed
        writer.write(everything.upper())
        await close(writer)

    async with relayed(backend) as (reader, writer):
        writer.write(b"hello")
        writer.write_eof()
        assert await reader.read() == b"HELLO"


async def test_a_reset_is_passed_on_as_a_reset() -> None:
    async def backend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        reset(writer)

    async with relayed(backend) as (reader, writer):
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await reader.read()


async def test_a_slow_reader_holds_the_writer_back() -> None:
    go_on, size = asyncio.Event(), 64 * 2**20

    async def backend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        count = 0
        while chunk := await reader.read(2**20):
            count += len(chunk)
        writer.write(str(count).encode())
        await close(writer)

    async with relayed(backend) as (reader, writer):
        writer.write(bytes(size))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await writer.drain()
        go_on.set()
        await writer.drain()
        writer.write_eof()
        assert int(await reader.read()) == size
