"""Kubernetes Events about pods and nodes: the same event again raises its count instead of making a new object."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Literal

import aiohttp

from localcluster.kubelet.api import Api, ApiError
from localcluster.kubelet.objects import Json, stamp

log = logging.getLogger(__name__)
FORGET_SECONDS = 3600.0
"""The API server keeps events for an hour; a later one starts a new count."""


@dataclass
class _Seen:
    path: str
    count: int
    last: float


class Events:
    """`record` never waits and never fails; `run` writes what was recorded, in order."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._queue: asyncio.Queue[tuple[Json, tuple[str, ...]]] = asyncio.Queue()
        self._seen: dict[tuple[str, ...], _Seen] = {}

    def record(
        self,
        about: Json,
        kind: Literal["Normal", "Warning"],
        reason: str,
        message: str,
        *,
        node: str,
        field_path: str = "",
    ) -> None:
        """`about` is the pod; `field_path` names one of its containers (`spec.containers{web}`)."""
        meta, now = about["metadata"], time.time()
        namespace = meta.get("namespace") or "default"
        involved: Json = {
            "kind": about.get("kind", "Pod"),
            "apiVersion": about.get("apiVersion", "v1"),
            "name": meta["name"],
            "namespace": meta.get("namespace", ""),
            "uid": meta["uid"],
        }
        if field_path:
            involved["fieldPath"] = field_path
        event = {
            "metadata": {"name": f"{meta['name']}.{time.time_ns():x}", "namespace": namespace},
            "involvedObject": involved,
            "reason": reason,
            "message": message[:1024],
            "type": kind,
            "source": {"component": "kubelet", "host": node},
            "reportingComponent": "kubelet",
            "reportingInstance": node,
            "firstTimestamp": stamp(now),
            "lastTimestamp": stamp(now),
            "count": 1,
        }
        self._queue.put_nowait((event, (meta["uid"], field_path, kind, reason, message)))

    async def run(self) -> None:
        while True:
            event, same = await self._queue.get()
            try:
                await self._write(event, same)
            except (ApiError, aiohttp.ClientError, TimeoutError) as error:
                self._seen.pop(same, None)  # it may have expired on the server: the next one begins a new count
                log.debug("event lost reason=%s error=%s", event["reason"], error)

    async def _write(self, event: Json, same: tuple[str, ...]) -> None:
        now = time.time()
        for key in [key for key, seen in self._seen.items() if now - seen.last > FORGET_SECONDS]:
            del self._seen[key]
        collection = f"/api/v1/namespaces/{event['metadata']['namespace']}/events"
        if seen := self._seen.get(same):
            seen.count, seen.last = seen.count + 1, now
            await self.api.patch(seen.path, {"count": seen.count, "lastTimestamp": event["lastTimestamp"]})
            return
        made = await self.api.create(collection, event)
        self._seen[same] = _Seen(f"{collection}/{made['metadata']['name']}", 1, now)
