"""How many more replicas the nodes have room for, by what their pods ask of them."""

from __future__ import annotations

import time
from collections.abc import Callable

from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.cluster.cache import Cache
from shift_operator.cluster.client import Body, Cluster
from shift_operator.cluster.errors import Forbidden
from shift_operator.cluster.resources import NODES, PODS
from shift_operator.planning.nodes import room

_HOLDS_GPUS = "status.phase!=Succeeded,status.phase!=Failed"


class FreeGpus:
    """Everyone's pods are listed and not watched: most are not ours, and it is rarely asked. `clock` in seconds."""

    def __init__(self, cluster: Cluster, cache: Cache, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._cache = cache
        self._clock = clock
        self._pods: list[Body] | None = []
        self._listed_at = float("-inf")

    async def room(
        self, deployment: ShiftDeployment, max_age_seconds: float = 0.0, nodes_per_replica: int = 1
    ) -> int | None:
        """Replicas that fit beside what runs, by a list of pods of at most this age. None where we may not see the
        nodes or everyone's pods."""
        nodes = self._cache.all(NODES)
        if not nodes:
            return None
        if self._clock() - self._listed_at >= max_age_seconds:
            self._pods, self._listed_at = await self._list(), self._clock()
        return None if self._pods is None else room(deployment, nodes, self._pods, nodes_per_replica)

    def changed(self) -> None:
        """Something ended: a list from before it counts no more."""
        self._listed_at = float("-inf")

    async def _list(self) -> list[Body] | None:
        try:
            return [
                _slim(pod) async for page in self._cluster.list(PODS, field_selector=_HOLDS_GPUS) for pod in page.bodies
            ]
        except Forbidden:
            return None


def _slim(pod: Body) -> Body:
    """What `room` reads of a pod: a cluster has thousands of them."""
    spec = pod["spec"]
    return {
        "spec": {key: spec[key] for key in ("nodeName", "containers", "initContainers") if key in spec},
        "status": {"phase": (pod.get("status") or {}).get("phase")},
    }
