"""An HTTP proxy before the API server that answers for it now and then, and cuts connections when told to.

It runs on a thread of its own. Clients reach it by plain HTTP with their bearer token, it reaches the API server by
TLS, so the API server sees who they are.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import threading
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web
from yarl import URL

OF_ONE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}


class FaultProxy:
    """`fail` and `cut` may be called from any thread."""

    def __init__(self, target: str, context: ssl.SSLContext) -> None:
        self._target = target
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault proxy")
        self._dice = random.Random(0)
        self._share, self._statuses = 0.0, (500,)
        self._open: set[asyncio.Transport] = set()
        self.faults = 0
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def fail(self, share: float, *statuses: int) -> None:
        """From now on this share of requests is answered with one of the statuses instead of being passed on."""
        self._share, self._statuses = share, statuses or (500,)

    def cut(self) -> int:
        """Resets every connection that a request is open on, watches before all. How many there were."""

        async def abort() -> int:
            for transport in list(self._open):
                transport.abort()
            return len(self._open)

        return asyncio.run_coroutine_threadsafe(abort(), self._loop).result(10)

    async def _start(self) -> None:
        connector = aiohttp.TCPConnector(ssl=self._context, limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _end(self) -> None:
        for transport in list(self._open):
            transport.abort()
        await self._runner.cleanup()
        await self._session.close()
        await asyncio.sleep(0.1)  # the sessions' TLS connections close one turn of the loop later

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self._dice.random() < self._share:
            self.faults += 1
            status = self._dice.choice(self._statuses)
            body = {"kind": "Status", "status": "Failure", "code": status, "message": "a fault of the proxy"}
            return web.json_response(body, status=status, headers={"Retry-After": "1"} if status == 429 else {})
        transport = request.transport
        assert transport is not None
        self._open.add(transport)
        try:
            return await self._pass_on(request)
        except (aiohttp.ClientError, OSError):
            transport.abort()  # no server behind us is a connection that breaks
            raise
        finally:
            self._open.discard(transport)

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in OF_ONE_CONNECTION}
        url = URL(self._target + request.raw_path, encoded=True)
        body = await request.read()
        async with self._session.request(request.method, url, headers=headers, data=body or None) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in OF_ONE_CONNECTION}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response
