"""Every write asks the fence first, also one that a later version adds: with a lost lease nothing is sent."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration
from shift_operator.cluster.client import Cluster
from shift_operator.cluster.credentials import Credentials
from shift_operator.cluster.errors import LeaseLost, Request
from shift_operator.cluster.resources import CONFIG_MAPS, EVENTS, LEASES, PODS, SHIFT_DEPLOYMENTS

METADATA = {"namespace": "prod", "name": "chat"}
CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": METADATA}
SEEN = CONFIG_MAP | {"metadata": METADATA | {"uid": "5f1c", "resourceVersion": "7"}}
LEASE = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": METADATA}
EVENT = {"apiVersion": EVENTS.api_version, "kind": EVENTS.kind, "metadata": METADATA}

READS = {"get", "list", "watch"}
WRITES: dict[str, Callable[[Cluster], Awaitable[Any]]] = {
    "create": lambda cluster: cluster.create(CONFIG_MAP),
    "apply": lambda cluster: cluster.apply(CONFIG_MAP),
    "delete": lambda cluster: cluster.delete(CONFIG_MAPS, SEEN),
    "remove_fields": lambda cluster: cluster.remove_fields(CONFIG_MAPS, "prod", "chat", []),
    "apply_status": lambda cluster: cluster.apply_status(SHIFT_DEPLOYMENTS, "prod", "chat", {}),
    "annotate_pod": lambda cluster: cluster.annotate_pod("prod", "chat-0", {"a": "b"}),
    "create_event": lambda cluster: cluster.create_event("prod", EVENT),
    "patch_event": lambda cluster: cluster.patch_event("prod", "chat", {}),
    "create_lease": lambda cluster: cluster.create_lease(LEASE),
    "replace_lease": lambda cluster: cluster.replace_lease(LEASE),
}


@pytest.fixture
async def server() -> AsyncIterator[tuple[str, list[str]]]:
    """An HTTP server's URL, and the requests that reached it."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(f"{request.method} {request.path}")
        return web.json_response({"metadata": {}})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    await runner.cleanup()


def a_cluster(url: str, fence: Callable[[Request], float]) -> Cluster:
    configuration = Configuration()
    configuration.host = url
    return Cluster(Credentials(configuration, None), fence=fence)


def test_all_that_the_client_can_do_is_known_here_as_a_read_or_a_write() -> None:
    can = {name for name, _ in inspect.getmembers(Cluster, inspect.isfunction) if not name.startswith("_")}
    assert can - {"close"} == READS | WRITES.keys()


@pytest.mark.parametrize("name", WRITES)
async def test_a_write_with_a_lost_lease_is_not_sent(name: str, server: tuple[str, list[str]]) -> None:
    url, asked = server
    lost = False

    def fence(asked: Request) -> float:
        if lost:
            raise LeaseLost(Request("update", "leases", "system", "lease"), "another holds it")
        return 10.0

    async with a_cluster(url, fence) as cluster:
        await WRITES[name](cluster)
        assert len(asked) == 1, "it is a write that reaches the server while the lease is ours"
        lost = True
        with pytest.raises(LeaseLost):
            await WRITES[name](cluster)
        assert len(asked) == 1
        await cluster.get(PODS, "prod", "chat-0")
        assert len(asked) == 2, "a read needs no lease"
