"""The kubelet's HTTPS server: health for everyone, the rest for holders of the cluster's client certificates."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from localcluster.certificates import Authority, client_context
from localcluster.kubelet.agent import Agent, Settings
from localcluster.kubelet.api import Api, Credentials
from localcluster.kubelet.launch import ApiServer
from localcluster.kubelet.server import log_options, serve


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    settings = Settings([], tmp_path, None, "127.10.0.0/16", ApiServer("127.110.0.1", 443), 0)
    async with Api(Credentials("http://127.0.0.1:1", True, None)) as api:
        yield Agent(api, settings)


@pytest.fixture
async def address(agent: Agent, tmp_path: Path) -> AsyncIterator[str]:
    authority = Authority(tmp_path)
    server = authority.issue("server", hosts=["127.0.0.1"])
    authority.issue("client")
    runner = await serve(agent, 0, server.certificate, server.key, authority.certificate)
    yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def get(url: str, tls: ssl.SSLContext) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url, ssl=tls) as response:
        return response.status, await response.text()


async def test_health_needs_no_certificate_and_says_when_the_nodes_are_registered(
    agent: Agent, address: str, tmp_path: Path
) -> None:
    anyone = ssl.create_default_context(cafile=tmp_path / "ca.crt")
    assert (await get(f"{address}/healthz", anyone))[0] == 503
    agent.ready = True
    assert await get(f"{address}/healthz", anyone) == (200, "ok")


async def test_everything_else_needs_one(address: str, tmp_path: Path) -> None:
    anyone = ssl.create_default_context(cafile=tmp_path / "ca.crt")
    assert (await get(f"{address}/pods", anyone))[0] == 401
    assert (await get(f"{address}/containerLogs/a/b/c", anyone))[0] == 401
    assert (await get(f"{address}/exec/a/b/c", anyone))[0] == 401


async def test_a_pod_that_is_not_here_is_not_found(address: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "other")
    known = ssl.create_default_context(cafile=tmp_path / "ca.crt")
    known.load_cert_chain(tmp_path / "client.crt", tmp_path / "client.key")
    assert await get(f"{address}/containerLogs/ns/chat/engine", known) == (404, 'pod "chat" does not run on this node')
    stranger = client_context(tmp_path / "ca.crt", authority.issue("stranger"))
    with pytest.raises(aiohttp.ClientError):
        await get(f"{address}/pods", stranger)


def test_log_options_are_read_as_the_api_server_writes_them() -> None:
    options = log_options({"follow": "true", "tailLines": "3", "sinceSeconds": "10", "limitBytes": "99"}, now=100.0)
    assert (options.follow, options.tail, options.since, options.limit_bytes) == (True, 3, 90.0, 99)
    assert log_options({"sinceTime": "1970-01-01T00:01:00Z"}, now=100.0).since == 60.0


@pytest.mark.parametrize("query", [{"tailLines": "-1"}, {"sinceTime": "yesterday"}, {"limitBytes": "x"}])
def test_bad_log_options_are_refused(query: dict[str, str]) -> None:
    with pytest.raises(web.HTTPBadRequest):
        log_options(query, now=100.0)
