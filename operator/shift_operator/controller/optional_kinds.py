"""Kinds that a cluster may lack, or that we may not see: which of them are there now, and what changes in them.

They are watched here and not by kopf, whose process ends when a kind that it watches is removed. A kind is there when
it can be listed; so it is found when somebody installs it later, without the right to read CustomResourceDefinitions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum

from shift_operator.api.signals import DeploymentKey
from shift_operator.cluster.cache import Cache
from shift_operator.cluster.client import Cluster
from shift_operator.cluster.errors import ClusterError, Expired, Forbidden, NotFound
from shift_operator.cluster.resources import Resource

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""Pause before an absent kind is asked for again, or one whose watch failed."""


class Sight(Enum):
    """What we know of a kind."""

    UNKNOWN = "not listed yet"
    SEEN = "its objects are in the cache"
    ABSENT = "the cluster does not have it"
    FORBIDDEN = "we may not list it"


class OptionalKinds:
    """Watches the kinds of `resources` that are there, each in the namespaces given for it (None: all of them).

    `on_change` gets the ShiftDeployment that a change concerns; None where it may concern any: a kind came or went, its
    objects were listed anew, or they belong to no deployment.
    """

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        resources: Mapping[Resource, Sequence[str | None]],
        on_change: Callable[[DeploymentKey | None], None],
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._resources = resources
        self._on_change = on_change
        self._sight = dict.fromkeys(resources, Sight.UNKNOWN)

    def names(self) -> frozenset[str]:
        """The kinds that are there."""
        return frozenset(resource.kind for resource, sight in self._sight.items() if sight is Sight.SEEN)

    def sight(self, resource: Resource) -> Sight:
        """What we know of this kind."""
        return self._sight[resource]

    async def look(self) -> None:
        """Lists each kind once, before anything is decided on them. A kind that cannot be listed now stays UNKNOWN."""
        for resource, namespaces in self._resources.items():
            for namespace in namespaces:
                with self._judging(resource):
                    await self._list(resource, namespace)

    async def follow(self) -> None:
        """Watches until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for resource, namespaces in self._resources.items():
                for namespace in namespaces:
                    group.create_task(self._follow(resource, namespace), name=f"watch of {resource}")

    async def _follow(self, resource: Resource, namespace: str | None) -> None:
        while True:
            pause = LOOK_SECONDS
            with self._judging(resource):
                await self._watch(resource, namespace)
                pause = 1.0
            await asyncio.sleep(pause)

    async def _watch(self, resource: Resource, namespace: str | None) -> None:
        version = await self._list(resource, namespace)
        selector = self._cache.selector_of(resource)
        with contextlib.suppress(Expired):  # the next list is as good as what was missed
            async for change, body in self._cluster.watch(resource, namespace, selector, version):
                is_news = self._cache.drop(resource, body) if change == "DELETED" else self._cache.put(resource, body)
                owner = self._cache.owner_of(resource, body)
                if is_news and (owner is not None or not resource.namespaced):
                    self._on_change(DeploymentKey(*owner) if owner else None)

    async def _list(self, resource: Resource, namespace: str | None) -> int:
        """Takes over what there is; the version to watch from."""
        version, _ = await self._cache.list_kind(self._cluster, resource, namespace)
        if self._sight[resource] is not Sight.SEEN:
            log.info("optional kind found", extra={"resource": str(resource)})
            self._sight[resource] = Sight.SEEN
        self._on_change(None)  # what was missed between two watches is not known one by one
        return version

    @contextlib.contextmanager
    def _judging(self, resource: Resource) -> Iterator[None]:
        """Takes an error for what it says of the kind."""
        try:
            yield
        except (NotFound, Forbidden) as error:
            self._lost(resource, error)
        except ClusterError as error:
            log.warning("optional kind not watched", extra={"resource": str(resource), "error": str(error)})

    def _lost(self, resource: Resource, error: ClusterError) -> None:
        before = self._sight[resource]
        now = Sight.FORBIDDEN if isinstance(error, Forbidden) else Sight.ABSENT
        self._sight[resource] = now
        fields = {"resource": str(resource), "error": str(error)}
        if now is Sight.FORBIDDEN and before is not Sight.FORBIDDEN:
            log.warning("optional kind left out", extra=fields)
        if before is Sight.SEEN:
            log.info("optional kind gone", extra=fields)
            self._cache.clear(resource)
            self._on_change(None)
