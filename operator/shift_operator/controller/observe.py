"""What a reconcile and the decision loop see of a deployment: the cache's objects, read into types."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.api.signals import DeploymentKey
from shift_operator.cluster.cache import Cache
from shift_operator.cluster.client import Body
from shift_operator.cluster.resources import CONFIG_MAPS, SHIFT_DEPLOYMENTS, WORKLOADS
from shift_operator.planning.groups import serving
from shift_operator.planning.names import schedule_name, workload_name


class UnreadableSpec(Exception):
    """The API server accepted an object that this version of the operator cannot read."""


@dataclass(frozen=True)
class Seen:
    """A ShiftDeployment and what belongs to it, as last seen."""

    body: Body
    deployment: ShiftDeployment
    pods: tuple[Body, ...]
    child: Body | None
    """The workload: its Deployment or LeaderWorkerSet."""
    config_map: Body | None
    """Its ConfigMap."""

    @property
    def serving(self) -> tuple[Body, ...]:
        """The pods that serve: one of each replica."""
        return serving(self.pods)


class Observer:
    """Reads the cache. An object is parsed once per version of it. `is_ours`: whether we serve a namespace now."""

    def __init__(self, cache: Cache, is_ours: Callable[[str], bool]) -> None:
        self._cache = cache
        self._is_ours = is_ours
        self._parsed: dict[DeploymentKey, tuple[str, ShiftDeployment]] = {}

    def observe(self, key: DeploymentKey) -> Seen | None:
        """The deployment; None if it is gone or going, when its children are the garbage collector's.

        Raises UnreadableSpec.
        """
        body = self._cache.get(SHIFT_DEPLOYMENTS, *key)
        if body is None or body["metadata"].get("deletionTimestamp"):
            self._parsed.pop(key, None)
            return None
        return Seen(
            body=body,
            deployment=self._parse(key, body),
            pods=tuple(self._cache.pods(*key)),
            child=self._workload(key),
            config_map=self._cache.get(CONFIG_MAPS, key.namespace, schedule_name(key.name)),
        )

    def _workload(self, key: DeploymentKey) -> Body | None:
        """Of two, for as long as one makes place for the other, it is the one that asks for replicas."""
        found = [self._cache.get(resource, key.namespace, workload_name(key.name)) for resource in WORKLOADS]
        there = [body for body in found if body is not None]
        return max(there, key=lambda body: int(body["spec"].get("replicas", 1)), default=None)

    def all(self) -> Iterator[tuple[DeploymentKey, Seen]]:
        """Every deployment that we serve and that can be read."""
        for name in self._cache.names(SHIFT_DEPLOYMENTS):
            key = DeploymentKey(*name)
            if not self._is_ours(key.namespace):
                continue
            try:
                seen = self.observe(key)
            except UnreadableSpec:
                continue  # its reconcile says so
            if seen is not None:
                yield key, seen

    def _parse(self, key: DeploymentKey, body: Mapping[str, Any]) -> ShiftDeployment:
        version = body["metadata"]["resourceVersion"]
        known = self._parsed.get(key)
        if known is not None and known[0] == version:
            return known[1]
        try:
            deployment = ShiftDeployment.from_body(body)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise UnreadableSpec(
                f"{key}: {field}: {first['msg']}; install the CRD of this operator's version"
            ) from error
        self._parsed[key] = (version, deployment)
        return deployment
