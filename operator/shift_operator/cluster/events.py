"""Writes Events, so that `kubectl describe` and `kubectl get events` tell what the operator did.

One Event object per (object, reason, note): repetitions raise its `series.count`, and not oftener than every
`SERIES_SECONDS`, since an Event costs the API server as much as any write. An Event that cannot be written is logged
and forgotten: it must never hold up what it tells of.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from shift_operator.cluster.client import Cluster
from shift_operator.cluster.errors import ClusterError, Conflict, NotFound

log = logging.getLogger(__name__)

SERIES_SECONDS = 60.0
REMEMBERED = 4096
"""Events we can still count up; the API server itself forgets them after an hour."""
NOTE_CHARACTERS = 1024


class EventType(StrEnum):
    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True)
class Event:
    """What happened (`reason`, from a closed list), what we were doing (`action`), and a sentence for the reader."""

    type: EventType
    reason: str
    action: str
    note: str


@dataclass
class _Series:
    name: str
    count: int
    written_at: float


class EventRecorder:
    """Records Events about objects. `now` is a monotonic clock in seconds."""

    def __init__(self, cluster: Cluster, now: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._now = now
        self._series: OrderedDict[str, _Series] = OrderedDict()
        # Names differ from those of our earlier life, whose counts we do not know.
        self._life = f"{time.time_ns():x}"
        self._instance = f"{socket.gethostname()}-{os.getpid()}"

    async def record(self, regarding: Mapping[str, Any], event: Event) -> None:
        """Writes the Event about this object, or counts it up. Never raises for what the API server answers."""
        metadata = regarding["metadata"]
        namespace = metadata["namespace"]
        note = event.note if len(event.note) <= NOTE_CHARACTERS else event.note[: NOTE_CHARACTERS - 1] + "…"
        key = "\0".join((metadata["uid"], event.type, event.reason, event.action, note))
        try:
            if not await self._count_up(key, namespace):
                await self._create(key, regarding, event, note)
        except ClusterError as error:
            log.warning("event not written", extra={"reason": event.reason, "error": str(error)})

    async def _count_up(self, key: str, namespace: str) -> bool:
        """Whether the Event exists already; then it is counted."""
        series = self._series.get(key)
        if series is None:
            return False
        self._series.move_to_end(key)
        series.count += 1
        if self._now() - series.written_at < SERIES_SECONDS:
            return True
        changes = {"series": {"count": series.count, "lastObservedTime": _micro_time()}}
        try:
            await self._cluster.patch_event(namespace, series.name, changes)
        except NotFound:
            del self._series[key]
            return False
        series.written_at = self._now()
        return True

    async def _create(self, key: str, regarding: Mapping[str, Any], event: Event, note: str) -> None:
        metadata = regarding["metadata"]
        name = f"{metadata['name'][:200]}.{hashlib.sha256((self._life + key).encode()).hexdigest()[:16]}"
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"namespace": metadata["namespace"], "name": name},
            "eventTime": _micro_time(),
            "reportingController": "shiftparallel.io/shift-operator",
            "reportingInstance": self._instance[:128],
            "type": event.type.value,
            "reason": event.reason,
            "action": event.action,
            "note": note,
            "regarding": {
                "apiVersion": regarding["apiVersion"],
                "kind": regarding["kind"],
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
                "resourceVersion": metadata.get("resourceVersion", ""),
            },
        }
        with contextlib.suppress(Conflict):  # a first try was written though its answer was lost
            await self._cluster.create_event(metadata["namespace"], body)
        self._series[key] = _Series(name, count=1, written_at=self._now())
        while len(self._series) > REMEMBERED:
            self._series.popitem(last=False)


def _micro_time() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
