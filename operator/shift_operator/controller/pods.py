"""What we write to pods: annotations, and those only where they differ."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from shift_operator.api import labels
from shift_operator.cluster.cache import Cache
from shift_operator.cluster.client import Body, Cluster
from shift_operator.cluster.errors import NotFound
from shift_operator.cluster.resources import PODS
from shift_operator.controller.engines import Engines
from shift_operator.controller.observe import Seen
from shift_operator.planning.scale_down import deletion_costs, goes_down

log = logging.getLogger(__name__)


class Pods:
    """Annotates the pods of deployments and keeps the cache as new as its writes."""

    def __init__(self, cluster: Cluster, cache: Cache, engines: Engines) -> None:
        self._cluster = cluster
        self._cache = cache
        self._engines = engines

    async def announce(self, pods: Sequence[Body], generation: int) -> None:
        """Tells each pod's kubelet that there is a newer ConfigMap to mount."""
        await self._annotate(pods, labels.SCHEDULE_GENERATION, {_name(pod): str(generation) for pod in pods})

    async def weigh(self, seen: Seen, replicas: int) -> None:
        """Before they go down to `replicas`: asks the engines for their load, so that those with the least of it go."""
        if not goes_down(seen.child, replicas):
            return
        costs = deletion_costs(await self._engines.requests(seen.pods))
        log.info(
            "scaling down",
            extra={
                "key": f"{seen.deployment.namespace}/{seen.deployment.name}",
                "replicas": replicas,
                "costs": costs,
            },
        )
        await self._annotate(seen.pods, labels.DELETION_COST, {pod: str(cost) for pod, cost in costs.items()})

    async def _annotate(self, pods: Sequence[Body], annotation: str, values: Mapping[str, str]) -> None:
        needing = [pod for pod in pods if _needs(pod, annotation, values.get(_name(pod)))]
        await asyncio.gather(*(self._write(pod, annotation, values[_name(pod)]) for pod in needing))

    async def _write(self, pod: Body, annotation: str, value: str) -> None:
        namespace, name = pod["metadata"]["namespace"], _name(pod)
        try:
            self._cache.put(PODS, await self._cluster.annotate_pod(namespace, name, {annotation: value}))
        except NotFound:
            self._cache.forget(PODS, namespace, name)


def _needs(pod: Body, annotation: str, value: str | None) -> bool:
    metadata = pod["metadata"]
    known = (metadata.get("annotations") or {}).get(annotation)
    return value is not None and known != value and not metadata.get("deletionTimestamp")


def _name(pod: Body) -> str:
    return str(pod["metadata"]["name"])
