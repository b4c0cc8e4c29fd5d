"""What a reconcile and the decision loop see of a deployment: the cache's objects, read into types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.api.signals import DeploymentKey
from shift_operator.cluster.cache import Cache
from shift_operator.cluster.client import Body
from shift_operator.cluster.resources import CONFIG_MAPS, DEPLOYMENTS, SHIFT_DEPLOYMENTS
from shift_operator.controller.decision_loop import Subject
from shift_operator.controller.engines import engine_pod
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
    """The child Deployment."""
    config_map: Body | None
    """Its ConfigMap."""


class Observer:
    """Reads the cache. An object is parsed once per version of it."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
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
            child=self._cache.get(DEPLOYMENTS, key.namespace, workload_name(key.name)),
            config_map=self._cache.get(CONFIG_MAPS, key.namespace, schedule_name(key.name)),
        )

    def subjects(self) -> Iterator[Subject]:
        """Every deployment that can be read, for the decision loop."""
        for name in self._cache.names(SHIFT_DEPLOYMENTS):
            key = DeploymentKey(*name)
            try:
                seen = self.observe(key)
            except UnreadableSpec:
                continue  # its reconcile says so
            if seen is not None:
                yield Subject(key, seen.deployment, sum(engine_pod(pod) is not None for pod in seen.pods))

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
