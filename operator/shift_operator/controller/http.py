"""The operator's HTTP endpoint: /healthz (the process lives), /readyz (it works), /metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from shift_operator.controller.metrics import Metrics


@dataclass
class Readiness:
    """What is still missing until the operator does its work; empty when nothing is."""

    missing: set[str] = field(default_factory=set)
    role: str = ""
    """What this process does among several, for people who read /readyz; empty where it is alone."""

    def needs(self, what: str) -> None:
        self.missing.add(what)

    def has(self, what: str) -> None:
        self.missing.discard(what)


@asynccontextmanager
async def serve(host: str, port: int, metrics: Metrics, readiness: Readiness) -> AsyncIterator[int]:
    """Serves until the context ends; gives the port, which is a free one where 0 was asked. Raises OSError if taken."""

    async def healthz(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        if readiness.missing:
            return web.Response(status=503, text=f"not ready: {', '.join(sorted(readiness.missing))}\n")
        return web.Response(text=f"ok: {readiness.role}\n" if readiness.role else "ok\n")

    async def metrics_text(request: web.Request) -> web.Response:
        return web.Response(body=metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics_text)])
    # A probe's or scrape's kept-alive connection must not hold up the end of the process.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
