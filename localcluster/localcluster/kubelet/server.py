"""The kubelet's own HTTPS server, for the API server's eyes: health, container logs, commands in containers, pods.

All but /healthz want a client certificate of the cluster's CA; `kubectl logs` comes here through the API server.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from pathlib import Path

from aiohttp import web

from localcluster.kubelet import logs
from localcluster.kubelet.agent import Agent
from localcluster.kubelet.exec_stream import converse_over_websocket
from localcluster.kubelet.logs import LogOptions
from localcluster.kubelet.objects import Key, key_of, seconds_of
from localcluster.kubelet.pod_worker import PodWorker
from localcluster.kubelet.state import ContainerRecord, Running, Waiting

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ADDRESS = "127.0.0.1"


async def serve(agent: Agent, port: int, certificate: Path, key: Path, client_ca: Path) -> web.AppRunner:
    """Listen; the caller cleans the runner up. Raises OSError if the port is taken."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(client_ca))
    tls.load_cert_chain(certificate, key)
    tls.verify_mode = ssl.CERT_OPTIONAL
    runner = web.AppRunner(application(agent), access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, ADDRESS, port, ssl_context=tls).start()
    return runner


def application(agent: Agent) -> web.Application:
    routes = Routes(agent)
    app = web.Application(middlewares=[_certified])
    app.router.add_get("/healthz", routes.healthz)
    app.router.add_get("/pods", routes.pods)
    app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", routes.container_logs)
    app.router.add_get("/exec/{namespace}/{pod}/{container}", routes.execute)
    return app


@web.middleware
async def _certified(request: web.Request, handler: Handler) -> web.StreamResponse:
    transport = request.transport
    if request.path != "/healthz" and not (transport and transport.get_extra_info("peercert")):
        raise web.HTTPUnauthorized(text="a client certificate of the cluster's CA is required")
    return await handler(request)


class Routes:
    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    async def healthz(self, _: web.Request) -> web.Response:
        """200 once the nodes are registered."""
        return web.Response(text="ok") if self.agent.ready else web.Response(status=503, text="registering")

    async def pods(self, _: web.Request) -> web.Response:
        listed = {"apiVersion": "v1", "kind": "PodList", "items": self.agent.pods()}
        return web.Response(text=json.dumps(listed), content_type="application/json")

    async def execute(self, request: web.Request) -> web.StreamResponse:
        """A command in a running container, its streams over a WebSocket."""
        worker, record = self._container(request)
        attempt = worker.attempts.get(record.name)
        if attempt is None:
            raise web.HTTPBadRequest(text=f'container "{record.name}" of pod "{key_of(worker.pod)}" is not running')
        return await converse_over_websocket(request, attempt.order_for(request.query.getall("command", [])))

    def _container(self, request: web.Request) -> tuple[PodWorker, ContainerRecord]:
        part = request.match_info
        worker = self.agent.worker_of(Key(part["namespace"], part["pod"]))
        if worker is None:
            raise web.HTTPNotFound(text=f'pod "{part["pod"]}" does not run on this node')
        for record in worker.records:
            if record.name == part["container"]:
                return worker, record
        raise web.HTTPNotFound(text=f'container "{part["container"]}" is not in pod "{part["pod"]}"')

    async def container_logs(self, request: web.Request) -> web.StreamResponse:
        """The log of a container's present or, with `previous`, last attempt; text, streamed."""
        worker, record = self._container(request)
        pod_name = key_of(worker.pod).name
        options = log_options(request.query, time.time())
        previous = request.query.get("previous") == "true"
        attempt = record.restarts - 1 if previous else record.restarts
        if previous and isinstance(record.state, Waiting):
            attempt = record.restarts  # in back-off the newest attempt is already a previous one
        if previous and (record.last is None or attempt < 0):
            text = f'previous terminated container "{record.name}" in pod "{pod_name}" not found'
            raise web.HTTPBadRequest(text=text)
        if isinstance(record.state, Waiting) and record.ended is None:
            text = f'container "{record.name}" in pod "{pod_name}" is waiting to start: {record.state.reason}'
            raise web.HTTPBadRequest(text=text)

        def ended() -> bool:
            return record.restarts != attempt or not isinstance(record.state, Running)

        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        path = worker.directory.container(record.name).log(attempt)
        async with aclosing(logs.read(path, options, ended=ended)) as chunks:
            async for chunk in chunks:
                await response.write(chunk)
        await response.write_eof()
        return response


def log_options(query: Mapping[str, str], now: float) -> LogOptions:
    def number(name: str) -> int | None:
        text = query.get(name)
        if text is None:
            return None
        if not text.isdigit():
            raise web.HTTPBadRequest(text=f"{name}={text}: must be a whole number, 0 or more")
        return int(text)

    seconds, since_time = number("sinceSeconds"), query.get("sinceTime")
    since = now - seconds if seconds is not None else None
    if since_time:
        try:
            since = seconds_of(since_time)
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"sinceTime={since_time}: must be an RFC 3339 time") from error
    return LogOptions(
        follow=query.get("follow") == "true",
        timestamps=query.get("timestamps") == "true",
        tail=number("tailLines"),
        since=since,
        limit_bytes=number("limitBytes"),
    )
