"""Keeps a copy of one collection by list and watch, and tells its owner of each change.

The life of a copy: list; watch from the list's resourceVersion, which bookmarks carry forward; when the watch ends,
watch again from the last version seen; when that is too old (410), list again and report the difference. An object that
was deleted and made again under its name between two looks is reported as deleted, then added: its uid differs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Literal

import aiohttp

from localcluster.kubelet.api import Api, ApiError
from localcluster.kubelet.objects import Json, Key, key_of, uid_of

Change = Literal["ADDED", "MODIFIED", "DELETED"]
log = logging.getLogger(__name__)
RETRY_SECONDS = 0.5
WATCH_SECONDS = "300"


class Reflector:
    """`objects` is the copy; `synced` is set after the first list. `run()` ends only by cancellation."""

    def __init__(
        self, api: Api, path: str, on_change: Callable[[Change, Json], None], *, field_selector: str = ""
    ) -> None:
        self.api, self.path, self.on_change = api, path, on_change
        self.selector = {"fieldSelector": field_selector} if field_selector else {}
        self.objects: dict[Key, Json] = {}
        self.synced = asyncio.Event()

    async def run(self) -> None:
        while True:
            try:
                version = await self._list()
                self.synced.set()
                while True:
                    version = await self._watch(version)
            except ApiError as error:
                if error.code != 410:
                    log.warning("watch refused path=%s error=%s", self.path, error)
            except (aiohttp.ClientError, TimeoutError) as error:
                log.warning("watch broken path=%s error=%r", self.path, error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _list(self) -> str:
        answer = await self.api.get(self.path, **self.selector)
        listed = {key_of(item): item for item in answer["items"]}
        for key in [key for key in self.objects if key not in listed]:
            self._apply("DELETED", self.objects[key])
        for item in sorted(listed.values(), key=lambda item: str(item["metadata"]["creationTimestamp"])):
            self._apply("ADDED", item)
        return str(answer["metadata"]["resourceVersion"])

    async def _watch(self, version: str) -> str:
        params = {**self.selector, "resourceVersion": version, "allowWatchBookmarks": "true"}
        async for kind, item in self.api.watch(self.path, {**params, "timeoutSeconds": WATCH_SECONDS}):
            version = str(item["metadata"]["resourceVersion"])
            if kind == "DELETED":
                self._apply("DELETED", item)
            elif kind in ("ADDED", "MODIFIED"):
                self._apply("ADDED", item)
        return version

    def _apply(self, change: Literal["ADDED", "DELETED"], item: Json) -> None:
        """Store it and report what it means against the copy: an equal version is no change."""
        key = key_of(item)
        before = self.objects.get(key)
        if change == "DELETED":
            if before is not None:
                del self.objects[key]
                self.on_change("DELETED", item)
            return
        if before is not None and uid_of(before) != uid_of(item):
            self.on_change("DELETED", before)
            before = None
        self.objects[key] = item
        if before is None:
            self.on_change("ADDED", item)
        elif before["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
            self.on_change("MODIFIED", item)
