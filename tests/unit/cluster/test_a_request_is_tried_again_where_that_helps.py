"""The one send path, against a real HTTP server that answers as API servers do on bad days."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration
from shift_operator.cluster import client
from shift_operator.cluster.client import Cluster
from shift_operator.cluster.credentials import Credentials
from shift_operator.cluster.errors import (
    Expired,
    Forbidden,
    NotFound,
    Request,
    ServerError,
    Throttled,
    Unauthorized,
    Unreachable,
)
from shift_operator.cluster.resources import PODS, SHIFT_DEPLOYMENTS

POD = {"metadata": {"namespace": "prod", "name": "chat-0"}}
CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "prod", "name": "chat-schedule"}}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RETRY_SECONDS", (0.01, 0.02))


@dataclass
class ApiServer:
    """Answers requests in turn; `asked` keeps (method, path with query, content type, authorization, JSON body)."""

    cluster: Cluster
    answers: list[web.Response]
    asked: list[tuple[str, str, str, str | None, Any]] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    fenced: int = 0
    write_seconds: float = 10.0


@asynccontextmanager
async def an_api_server(*answers: web.Response, token_file: Path | None = None) -> AsyncIterator[ApiServer]:
    async def answer(request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        content_type, token = request.headers["Content-Type"], request.headers.get("Authorization")
        server.asked.append((request.method, request.path_qs, content_type, token, body))
        return server.answers.pop(0)

    def fence(asked: Request) -> float:
        server.fenced += 1
        return server.write_seconds

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
    cluster = Cluster(
        Credentials(configuration, token_file),
        fence=fence,
        on_request=lambda verb, resource, outcome: server.outcomes.append(f"{verb} {resource} {outcome}"),
    )
    server = ApiServer(cluster, list(answers))
    try:
        async with cluster:
            yield server
    finally:
        await runner.cleanup()


def ok(body: Any) -> web.Response:
    return web.json_response(body)


def refusal(status: int, message: str = "no", **headers: str) -> web.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.json_response({"kind": "Status", "message": message}, status=status, headers=named)


async def test_an_apply_is_a_forced_server_side_apply_of_ours() -> None:
    async with an_api_server(ok({"metadata": {"uid": "u"}})) as server:
        assert await server.cluster.apply(CONFIG_MAP) == {"metadata": {"uid": "u"}}
    (asked,) = server.asked
    path = "/api/v1/namespaces/prod/configmaps/chat-schedule?fieldManager=shift-operator&force=true"
    assert asked == ("PATCH", path, "application/apply-patch+yaml", None, CONFIG_MAP)
    assert server.outcomes == ["patch configmaps ok"]


async def test_a_create_is_an_apply_of_a_version_that_nothing_has_and_leaves_its_argument_alone() -> None:
    async with an_api_server(ok({})) as server:
        await server.cluster.create(CONFIG_MAP)
    (_, path, content_type, _, body) = server.asked[0]
    assert path.endswith("?fieldManager=shift-operator&force=true")
    assert content_type == "application/apply-patch+yaml"
    assert body == CONFIG_MAP | {"metadata": {"namespace": "prod", "name": "chat-schedule", "resourceVersion": "1"}}
    assert "resourceVersion" not in CONFIG_MAP["metadata"]


async def test_status_goes_to_its_subresource() -> None:
    async with an_api_server(ok({})) as server:
        await server.cluster.apply_status(SHIFT_DEPLOYMENTS, "prod", "chat", {"observedGeneration": 3})
    (_, path, _, _, body) = server.asked[0]
    assert path.startswith("/apis/shiftparallel.io/v1alpha1/namespaces/prod/shiftdeployments/chat/status?")
    assert body["status"] == {"observedGeneration": 3}
    assert server.outcomes == ["patch shiftdeployments.shiftparallel.io/status ok"]


async def test_a_server_error_is_tried_again_and_a_write_is_fenced_each_time() -> None:
    async with an_api_server(refusal(500), refusal(503), ok({"done": True})) as server:
        assert await server.cluster.apply(CONFIG_MAP) == {"done": True}
    assert server.outcomes == ["patch configmaps ServerError", "patch configmaps ServerError", "patch configmaps ok"]
    assert server.fenced == 3


async def test_three_failures_are_enough() -> None:
    async with an_api_server(refusal(500), refusal(502), refusal(500, "etcd is full")) as server:
        with pytest.raises(ServerError, match="get pods prod/chat-0: etcd is full"):
            await server.cluster.get(PODS, "prod", "chat-0")
    assert server.fenced == 0, "a read needs no lease"


@pytest.mark.parametrize(("status", "error"), [(403, Forbidden), (404, NotFound), (410, Expired)])
async def test_an_answer_that_will_not_change_is_not_asked_for_again(status: int, error: type[Exception]) -> None:
    async with an_api_server(refusal(status)) as server:
        with pytest.raises(error):
            await server.cluster.get(PODS, "prod", "chat-0")
    assert len(server.asked) == 1


async def test_a_long_retry_after_is_left_to_the_queue_and_a_short_one_is_waited_for() -> None:
    async with an_api_server(refusal(429, Retry_After="30")) as server:
        with pytest.raises(Throttled) as throttled:
            await server.cluster.get(PODS, "prod", "chat-0")
    assert throttled.value.after == 30
    async with an_api_server(refusal(429, Retry_After="0"), ok(POD)) as server:
        assert await server.cluster.get(PODS, "prod", "chat-0") == POD


async def test_a_refused_token_is_read_anew_once(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("old\n")
    async with an_api_server(
        ok(POD), refusal(401), ok(POD), refusal(401), refusal(401), token_file=token_file
    ) as server:
        await server.cluster.get(PODS, "prod", "chat-0")
        token_file.write_text("new\n")
        await server.cluster.get(PODS, "prod", "chat-0")
        with pytest.raises(Unauthorized):
            await server.cluster.get(PODS, "prod", "chat-0")
    tokens = [token for _, _, _, token, _ in server.asked]
    assert tokens == ["Bearer old", "Bearer old", "Bearer new", "Bearer new", "Bearer new"]


async def test_an_answer_that_is_no_json_is_a_server_error() -> None:
    async with an_api_server(*(web.Response(text="<html>a proxy's page") for _ in range(3))) as server:
        with pytest.raises(ServerError, match="HTTP 200 without JSON: <html>a proxy's page"):
            await server.cluster.get(PODS, "prod", "chat-0")


async def test_nobody_at_the_address_is_unreachable() -> None:
    async with an_api_server() as server:
        pass
    with pytest.raises(Unreachable, match="get pods prod/chat-0: Cannot connect"):
        await server.cluster.get(PODS, "prod", "chat-0")
    await server.cluster.close()


async def test_a_long_list_comes_in_pages() -> None:
    first = ok({"items": [POD], "metadata": {"resourceVersion": "7", "continue": "more"}})
    last = ok({"items": None, "metadata": {"resourceVersion": "7", "continue": ""}})
    async with an_api_server(first, last) as server:
        pages = [page async for page in server.cluster.list(PODS, None, "a=b")]
    assert pages == [([POD], 7), ([], 7)]
    assert [path for _, path, *_ in server.asked] == [
        "/api/v1/pods?limit=200&labelSelector=a%3Db",
        "/api/v1/pods?limit=200&labelSelector=a%3Db&continue=more",
    ]


async def test_a_write_lasts_no_longer_than_the_fence_allows() -> None:
    async with an_api_server(ok({}), ok({}), ok({})) as server:
        server.write_seconds = 1e-6
        with pytest.raises(Unreachable, match="no answer within 1e-06 s"):
            await server.cluster.apply(CONFIG_MAP)
        assert server.fenced == 3, "each try asks anew"
