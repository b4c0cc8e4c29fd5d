"""Listens on the cluster IP and port of every Service and passes connections on to its ready pods.

Level-based like kube-proxy: each change of a Service or pod asks for a sync, which compares the listeners that should
be with those that are. What an operator can notice is the same: a pod gets no new connection from the moment it is
deleted or unready, its open ones go on; with nothing ready the port refuses. A connection whose pod refuses is
refused too and not tried elsewhere, so that a rollout's mistakes show here as they would on a real cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
from urllib.parse import urlsplit

from localcluster.kubelet.api import Api
from localcluster.kubelet.objects import Json
from localcluster.kubelet.reflector import Change, Reflector
from localcluster.services.balance import Balance
from localcluster.services.endpoints import Endpoint, Frontend, Pods, endpoints, frontends
from localcluster.services.relay import relay, reset

log = logging.getLogger(__name__)
CONNECT_SECONDS = 10.0
RETRY_SECONDS = 1.0
LEAST_SECONDS = 0.05
"""Between two syncs, so that a burst of changes is one (kube-proxy's --min-sync-period is 1 s)."""
BACKLOG = 1024


class ServiceProxy:
    """`run` until cancelled, then `stop`. Cluster IPs outside `cidr` are left alone."""

    def __init__(self, api: Api, cidr: ipaddress.IPv4Network, *, api_server: str) -> None:
        self.cidr = cidr
        parts = urlsplit(api_server)
        self.api_server = Endpoint(parts.hostname or "127.0.0.1", parts.port or 443)
        self.services = Reflector(api, "/api/v1/services", self._changed)
        self.pods = Reflector(api, "/api/v1/pods", self._changed)
        self._ports: dict[Frontend, _Port] = {}
        self._due = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.services.run())
            group.create_task(self.pods.run())
            await self.services.synced.wait()
            await self.pods.synced.wait()
            while True:
                self._due.clear()
                failed = await self._sync()
                await asyncio.sleep(LEAST_SECONDS)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RETRY_SECONDS if failed else None):
                        await self._due.wait()

    async def stop(self) -> None:
        """Close every listener and connection."""
        for port in self._ports.values():
            await port.close()
            port.drop()

    def _changed(self, _: Change, __: Json) -> None:
        self._due.set()

    async def _sync(self) -> bool:
        """Make the listeners what they should be; True if one could not be opened."""
        wanted = self._wanted()
        for gone in [frontend for frontend in self._ports if frontend not in wanted]:
            await self._ports.pop(gone).close()
        failed = False
        for frontend, ready in wanted.items():
            port = self._ports.setdefault(frontend, _Port(frontend))
            try:
                await port.offer(ready)
            except OSError as error:
                failed = True
                log.warning("cannot listen address=%s port=%d error=%s", frontend.address, frontend.port, error)
        return failed

    def _wanted(self) -> dict[Frontend, frozenset[Endpoint]]:
        wanted, pods = {}, Pods(self.pods.objects.values())
        for key, service in self.services.objects.items():
            for frontend, port in frontends(service):
                if ipaddress.IPv4Address(frontend.address) not in self.cidr:
                    continue
                if key == ("default", "kubernetes"):
                    wanted[frontend] = frozenset({self.api_server})
                else:
                    wanted[frontend] = endpoints(service, port, pods)
        return wanted


class _Port:
    """One frontend: a listener while something is ready, and the connections that came through it."""

    def __init__(self, frontend: Frontend) -> None:
        self.frontend = frontend
        self.balance = Balance()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def offer(self, ready: frozenset[Endpoint]) -> None:
        """New connections go to these. Raises OSError if the address cannot be listened on."""
        if set(self.balance.ready) != ready:
            log.info("endpoints address=%s port=%d ready=%d", self.frontend.address, self.frontend.port, len(ready))
        self.balance.offer(ready)
        if ready and self._server is None:
            self._server = await asyncio.start_server(
                self._connected, self.frontend.address, self.frontend.port, backlog=BACKLOG, reuse_address=True
            )
        elif not ready:
            await self.close()

    async def close(self) -> None:
        """No new connections; open ones go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def drop(self) -> None:
        for connection in self._connections:
            connection.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        endpoint = self.balance.take()
        try:
            if endpoint is None:
                reset(writer)
                return
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    backend = await asyncio.open_connection(endpoint.address, endpoint.port)
            except (OSError, TimeoutError) as error:
                log.info("refused endpoint=%s:%d error=%s", endpoint.address, endpoint.port, error)
                reset(writer)
                return
            await relay((reader, writer), backend)
        finally:
            if endpoint is not None:
                self.balance.close(endpoint)
            self._connections.discard(task)
