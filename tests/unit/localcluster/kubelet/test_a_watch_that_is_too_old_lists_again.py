"""The reflector against an HTTP server that speaks the watch protocol: bookmarks, 410, objects made anew."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from localcluster.kubelet.api import Api, Credentials
from localcluster.kubelet.objects import Json, uid_of
from localcluster.kubelet.reflector import Reflector


def item(name: str, version: int, uid: str = "") -> Json:
    meta = {"namespace": "ns", "name": name, "uid": uid or name, "resourceVersion": str(version)}
    return {"metadata": {**meta, "creationTimestamp": "2026-11-24T11:00:00Z"}}


class Server:
    """Answers each list and each watch with the next of its script; a watch after the last one stays open."""

    def __init__(self) -> None:
        self.lists: list[Json] = []
        self.watches: list[list[Json]] = []
        self.asked: list[str] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.json_response(self.lists.pop(0))
        self.asked.append(request.query["resourceVersion"])
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if not self.watches:
            await asyncio.sleep(600)
        for event in self.watches.pop(0):
            await response.write(json.dumps(event).encode() + b"\n")
        return response


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, Api]]:
    script, app = Server(), web.Application()
    app.router.add_get("/things", script.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with Api(Credentials(f"http://127.0.0.1:{port}", True, None)) as api:
        yield script, api
    await runner.cleanup()


async def changes(script: Server, api: Api, count: int) -> list[tuple[str, str]]:
    """The first `count` changes: (what, uid)."""
    seen: list[tuple[str, str]] = []
    enough = asyncio.Event()

    def note(change: str, thing: dict[str, Any]) -> None:
        seen.append((change, uid_of(thing)))
        if len(seen) == count:
            enough.set()

    running = asyncio.create_task(Reflector(api, "/things", note).run())
    async with asyncio.timeout(10):
        await enough.wait()
    running.cancel()
    return seen


def listed(version: int, *items: Json) -> Json:
    return {"metadata": {"resourceVersion": str(version)}, "items": list(items)}


async def test_changes_arrive_and_a_bookmark_moves_the_version_on(server: tuple[Server, Api]) -> None:
    script, api = server
    script.lists = [listed(5, item("a", 1))]
    script.watches = [
        [
            {"type": "ADDED", "object": item("b", 6)},
            {"type": "MODIFIED", "object": item("a", 7)},
            {"type": "MODIFIED", "object": item("a", 7)},
            {"type": "DELETED", "object": item("b", 8)},
            {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "20"}}},
        ],
        [{"type": "ADDED", "object": item("c", 21)}],
    ]
    expected = [("ADDED", "a"), ("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b"), ("ADDED", "c")]
    assert await changes(script, api, 5) == expected
    assert script.asked[:2] == ["5", "20"]


async def test_an_expired_version_lists_again_and_reports_the_difference(server: tuple[Server, Api]) -> None:
    script, api = server
    expired = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}
    script.lists = [listed(5, item("a", 1), item("b", 2)), listed(50, item("b", 2), item("c", 40))]
    script.watches = [[expired]]
    expected = [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a"), ("ADDED", "c")]
    assert await changes(script, api, 4) == expected


async def test_an_object_made_anew_under_its_name_is_another_one(server: tuple[Server, Api]) -> None:
    script, api = server
    script.lists = [listed(5, item("a", 1, uid="first"))]
    script.watches = [[{"type": "ADDED", "object": item("a", 9, uid="second")}]]
    assert await changes(script, api, 3) == [("ADDED", "first"), ("DELETED", "first"), ("ADDED", "second")]
