"""The policies in force: the ClusterShiftPolicies of the cluster, and the built-in one that the flags make."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from shift_operator.api.base import ApiType
from shift_operator.api.policy import ClusterShiftPolicy, PolicyMode
from shift_operator.api.profile import ShiftProfile
from shift_operator.cluster.cache import Cache
from shift_operator.cluster.client import Body
from shift_operator.cluster.resources import NODES, POLICIES, PROFILES, Resource
from shift_operator.control.guidance import settings_of
from shift_operator.control.inputs import PolicySettings
from shift_operator.controller.optional_kinds import Sight
from shift_operator.controller.prometheus_signals import Source
from shift_operator.controller.settings import Settings
from shift_operator.planning.profile import gpu_product

log = logging.getLogger(__name__)

Object = TypeVar("Object", bound=ApiType)

BUILT_IN = ""
"""The name of the policy that applies where no ClusterShiftPolicy does. No object can have it."""


@dataclass(frozen=True)
class PolicyInForce:
    """A policy as the decision loop goes by it. `source` is None where nothing says which Prometheus to ask."""

    name: str
    settings: PolicySettings
    interval_seconds: float
    source: Source | None


class Guidance:
    """The policies and profiles of the cluster, parsed once per version of each.

    `sight` says what the watches know of a kind.
    """

    def __init__(self, cache: Cache, settings: Settings, sight: Callable[[Resource], Sight]) -> None:
        self._cache = cache
        self._settings = settings
        self._sight = sight
        self._policies = _Parsed(cache, POLICIES, ClusterShiftPolicy)
        self._profiles = _Parsed(cache, PROFILES, ShiftProfile)

    @property
    def sight(self) -> Sight:
        """What we know of the cluster's policies."""
        return self._sight(POLICIES)

    def policies(self) -> list[ClusterShiftPolicy]:
        """Those of the cluster that can be read, by name."""
        return self._policies.all()

    def profiles(self) -> list[ShiftProfile]:
        """Those of the cluster that can be read, by name."""
        return self._profiles.all()

    def known_profiles(self) -> list[ShiftProfile] | None:
        """The same; None while it is not known which there are."""
        return self.profiles() if self._sight(PROFILES) is Sight.SEEN else None

    def gpus_of(self, pods: Iterable[Body]) -> frozenset[str]:
        """The GPU products of the nodes that the pods run on, as far as the nodes say."""
        nodes = {str((pod.get("spec") or {}).get("nodeName") or "") for pod in pods}
        found = (gpu_product(self._cache.get(NODES, "", node)) for node in nodes)
        return frozenset(product for product in found if product)

    def in_force(self) -> dict[str, PolicyInForce]:
        """Every policy by its name, the built-in one included."""
        return {BUILT_IN: self._built_in()} | {policy.name: self._of_cluster(policy) for policy in self.policies()}

    def _built_in(self) -> PolicyInForce:
        """By the flags. While the cluster's policies cannot be seen, what costs GPUs is left as it is."""
        settings = PolicySettings()
        if self.sight in (Sight.UNKNOWN, Sight.FORBIDDEN):
            settings = replace(settings, degree_mode=PolicyMode.DISABLED, replicas_mode=PolicyMode.DISABLED)
        if self.sight is Sight.UNKNOWN:
            settings = replace(settings, threshold_mode=PolicyMode.DISABLED)
        interval = self._settings.decision_interval_seconds
        return PolicyInForce(BUILT_IN, settings, interval, Source.of_flags(self._settings))

    def _of_cluster(self, policy: ClusterShiftPolicy) -> PolicyInForce:
        spec = policy.spec
        source = Source.of_policy(spec, self._settings)
        return PolicyInForce(policy.name, settings_of(spec), float(spec.interval_seconds), source)


class _Parsed(Generic[Object]):
    """The cache's objects of a kind, read into types. One that this version cannot read is left out, and logged."""

    def __init__(self, cache: Cache, resource: Resource, type_: type[Object]) -> None:
        self._cache = cache
        self._resource = resource
        self._type = type_
        self._read: dict[str, tuple[str, Object | None]] = {}

    def all(self) -> list[Object]:
        """Those that can be read, by name."""
        self._read = {body["metadata"]["name"]: self._parse(body) for body in self._cache.all(self._resource)}
        return [found for _, found in self._read.values() if found is not None]

    def _parse(self, body: Mapping[str, Any]) -> tuple[str, Object | None]:
        name, version = body["metadata"]["name"], body["metadata"]["resourceVersion"]
        known = self._read.get(name)
        if known is not None and known[0] == version:
            return known
        try:
            return version, self._type.from_body(body)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            fields = {"resource": str(self._resource), "object": name, "error": f"{field}: {first['msg']}"}
            log.warning("left out, install the CRD of this operator's version", extra=fields)
            return version, None
