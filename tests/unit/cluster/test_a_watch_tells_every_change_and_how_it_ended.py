"""Our own watch, against a real HTTP server that sends its events in pieces of any size."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration
from shift_operator.cluster.client import Cluster
from shift_operator.cluster.credentials import Credentials
from shift_operator.cluster.errors import Expired, NotFound, Unreachable
from shift_operator.cluster.resources import POD_MONITORS

MONITOR = {"metadata": {"namespace": "prod", "name": "chat", "note": "é" * 40_000}}  # longer than aiohttp's line limit


def line(change: str, body: Any) -> bytes:
    return json.dumps({"type": change, "object": body}, ensure_ascii=False).encode() + b"\n"


@asynccontextmanager
async def watching(stream: bytes, *, piece: int, cut: bool = False, status: int = 200) -> AsyncIterator[Any]:
    """A watch whose answer comes in pieces of this many bytes, and with `cut` ends without being complete."""
    asked: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(dict(request.query))
        if status != 200:
            return web.json_response({"kind": "Status", "message": "the server could not find it"}, status=status)
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, len(stream), piece):
            await response.write(stream[start : start + piece])
        if cut and request.transport is not None:
            request.transport.abort()
        return response

    app = web.Application()
    app.router.add_get("/apis/monitoring.coreos.com/v1/podmonitors", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with Cluster(Credentials(configuration, None)) as cluster:
            yield cluster.watch(POD_MONITORS, None, "a=b", 7), asked
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("piece", [7, 4096, 1_000_000])
async def test_events_are_whole_however_they_arrive(piece: int) -> None:
    async with watching(line("ADDED", MONITOR) + line("DELETED", MONITOR), piece=piece) as (events, asked):
        assert [event async for event in events] == [("ADDED", MONITOR), ("DELETED", MONITOR)]
    assert asked == [{"watch": "true", "resourceVersion": "7", "timeoutSeconds": "240", "labelSelector": "a=b"}]


async def test_a_version_that_is_history_is_told_from_a_kind_that_is_gone() -> None:
    gone = {"kind": "Status", "code": 410, "message": "too old resource version"}
    async with watching(line("ADDED", MONITOR) + line("ERROR", gone), piece=4096) as (events, _):
        assert (await anext(events))[0] == "ADDED"
        with pytest.raises(Expired):
            await anext(events)
    async with watching(b"", piece=1, status=404) as (events, _):
        with pytest.raises(NotFound):
            await anext(events)


async def test_a_cut_connection_is_no_end() -> None:
    async with watching(line("ADDED", MONITOR)[:-20], piece=4096, cut=True) as (events, _):
        with pytest.raises(Unreachable):
            await anext(events)
