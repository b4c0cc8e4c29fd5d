"""The objects of the cluster as last seen, in memory: `observe` reads them here, so a reconcile costs no request.

Three feeds, all through `put`, `drop` and `replace`: kopf's watches, the answers of our own writes (so that the next
reconcile does not write again what a watch has not echoed yet), and a list of every kind at start and each resync. That
list is what notices objects deleted while a watch was cut: a watch that lists anew only tells what is there.

The feeds overtake each other. A resourceVersion is a growing integer of one cluster, so the newer one wins.

What only a reconcile reads is kept as JSON text: a seventh of the memory that its dicts take (a child Deployment with
its record of ownership: 7 KB, not 50), for about 50 us at each read.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from shift_operator.cluster.client import Body, Cluster
from shift_operator.cluster.resources import (
    GUIDANCE,
    KEPT,
    NODES,
    PODS,
    SHIFT_DEPLOYMENTS,
    WATCHED,
    Resource,
)

Name = tuple[str, str]
"""(namespace, name) of an object, or of the ShiftDeployment that an object's label names.

The namespace of what belongs to none, such as a node or a policy, is "".
"""

_READ_OFTEN = (SHIFT_DEPLOYMENTS, PODS, NODES)
"""Kinds that every look at the metrics, or every reconcile, reads all of: these are kept as they are."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A version of an object: its content, as JSON text or as it is, and what is asked of it without its content."""

    version: int
    owner: Name | None
    content: bytes | Body

    @property
    def body(self) -> Body:
        if isinstance(self.content, bytes):
            body: Body = json.loads(self.content)
            return body
        return self.content


class Cache:
    """The last seen object of each kind and name.

    `owner_label` is the label that names an object's ShiftDeployment; `selector` finds the objects that carry ours.
    `served_selector` finds the ShiftDeployments that are for this process, and `is_served(body)` says of one whether it
    is still: the answer to a write of ours may bring a label that has just made it another's.
    """

    def __init__(
        self,
        owner_label: str,
        selector: str,
        served_selector: str = "",
        is_served: Callable[[Mapping[str, Any]], bool] = lambda body: True,
    ) -> None:
        self.owner_label = owner_label
        self.selector = selector
        self.served_selector = served_selector
        self._is_served = is_served
        self._objects: dict[Resource, dict[Name, _Kept]] = {resource: {} for resource in KEPT}
        self._pods: defaultdict[Name, set[str]] = defaultdict(set)

    def get(self, resource: Resource, namespace: str, name: str) -> Body | None:
        """The object, or None where we know of none. Do not change it: it is the cache's own."""
        kept = self._objects[resource].get((namespace, name))
        return None if kept is None else kept.body

    def pods(self, namespace: str, deployment: str) -> list[Body]:
        """The pods labelled with this ShiftDeployment, by name."""
        return [self._objects[PODS][namespace, pod].body for pod in sorted(self._pods.get((namespace, deployment), ()))]

    def all(self, resource: Resource) -> list[Body]:
        """Every object of a kind, in the order of their names."""
        return [self._objects[resource][name].body for name in self.names(resource)]

    def names(self, resource: Resource = SHIFT_DEPLOYMENTS) -> list[Name]:
        """The (namespace, name) of every object of a kind."""
        return sorted(self._objects[resource])

    def owner_of(self, resource: Resource, body: Mapping[str, Any]) -> Name | None:
        """Which ShiftDeployment a change of this object concerns: itself, or the one its label names."""
        metadata = body["metadata"]
        if resource is SHIFT_DEPLOYMENTS:
            return metadata["namespace"], metadata["name"]
        if not resource.namespaced:
            return None
        owner = (metadata.get("labels") or {}).get(self.owner_label)
        return (metadata["namespace"], owner) if owner else None

    def selector_of(self, resource: Resource) -> str:
        """The label selector by which the objects of this kind are listed and watched; "" for all of them."""
        if not resource.namespaced:
            return ""
        return self.served_selector if resource is SHIFT_DEPLOYMENTS else self.selector

    def put(self, resource: Resource, body: Mapping[str, Any]) -> bool:
        """Keeps this version of an object if none as new is known. Whether it is news, not an echo of our write."""
        name = _name(body)
        known = self._objects[resource].get(name)
        if known is not None and known.version >= _version(body):
            return False
        if resource is SHIFT_DEPLOYMENTS and not self._is_served(body):
            self._forget(resource, name)
            return known is not None
        self._remember(resource, name, _slim(resource, body))
        return True

    def drop(self, resource: Resource, body: Mapping[str, Any]) -> bool:
        """Forgets a deleted object, whose last state is `body`, but no later one of its name. Whether it was known."""
        name = _name(body)
        known = self._objects[resource].get(name)
        if known is None or known.version > _version(body):
            return False
        self._forget(resource, name)
        return True

    def forget(self, resource: Resource, namespace: str, name: str) -> None:
        """Forgets an object that a request of ours found gone."""
        self._forget(resource, (namespace, name))

    def replace(self, resource: Resource, namespace: str | None, bodies: Iterable[Body], version: int) -> list[Name]:
        """Takes a whole list of a kind in one namespace (None: all) read at `version`.

        Returns the owners of what had vanished unnoticed.
        """
        return self._forget_others(resource, namespace, self._put_all(resource, bodies), version)

    def clear(self, resource: Resource) -> None:
        """Forgets all objects of a kind that the cluster no longer has."""
        for name in list(self._objects[resource]):
            self._forget(resource, name)

    async def relist(self, cluster: Cluster, namespaces: Iterable[str | None] = (None,)) -> list[Name]:
        """Lists every kind that all clusters have and takes it over; returns the owners of what had vanished."""
        vanished = []
        for resource, namespace in ((r, n) for n in namespaces for r in WATCHED):
            if namespace is not None and not resource.namespaced:
                continue  # an operator of some namespaces sees no nodes
            _, gone = await self.list_kind(cluster, resource, namespace)
            vanished += gone
        return vanished

    async def list_kind(
        self, cluster: Cluster, resource: Resource, namespace: str | None = None
    ) -> tuple[int, list[Name]]:
        """Lists one kind and takes it over; returns the list's version and the owners of what had vanished."""
        selector = self.selector_of(resource)
        listed: set[Name] = set()
        version = 0
        async for page in cluster.list(resource, namespace, selector):
            # A list leaves out its objects' kind. Taken page by page, so that one page at most is held as it came.
            kind = {"apiVersion": resource.api_version, "kind": resource.kind}
            listed |= self._put_all(resource, (kind | body for body in page.bodies))
            version = page.version
        return version, self._forget_others(resource, namespace, listed, version)

    def _put_all(self, resource: Resource, bodies: Iterable[Body]) -> set[Name]:
        names = set()
        for body in bodies:
            names.add(_name(body))
            self.put(resource, body)
        return names

    def _forget_others(self, resource: Resource, namespace: str | None, listed: set[Name], version: int) -> list[Name]:
        """Forgets what a list read at `version` did not have, and is no newer. Returns the owners of that."""
        gone = [
            name
            for name, kept in self._objects[resource].items()
            if name not in listed and namespace in (None, name[0]) and kept.version <= version
        ]
        owners = [self._objects[resource][name].owner for name in gone]
        for name in gone:
            self._forget(resource, name)
        return [owner for owner in owners if owner is not None]

    def _remember(self, resource: Resource, name: Name, body: Body) -> None:
        self._forget(resource, name)
        owner = self.owner_of(resource, body)
        content = body if resource in _READ_OFTEN else json.dumps(body, separators=(",", ":")).encode()
        self._objects[resource][name] = _Kept(_version(body), owner, content)
        if resource is PODS and owner is not None:
            self._pods[owner].add(name[1])

    def _forget(self, resource: Resource, name: Name) -> None:
        kept = self._objects[resource].pop(name, None)
        if resource is not PODS or kept is None or kept.owner is None:
            return
        self._pods[kept.owner].discard(name[1])
        if not self._pods[kept.owner]:
            del self._pods[kept.owner]


def _slim(resource: Resource, body: Mapping[str, Any]) -> Body:
    """The object without what no reader of ours looks at: of pods most of the spec, and who set which field.

    Of the children that record stays: it tells what of them is ours, and who changed it.
    """
    if resource not in (PODS, SHIFT_DEPLOYMENTS, NODES, *GUIDANCE):
        return dict(body)
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    if resource is NODES:
        status = {key: body.get("status", {}).get(key) for key in ("allocatable", "capacity", "conditions")}
        return dict(body) | {"metadata": metadata, "status": status}
    if resource in (SHIFT_DEPLOYMENTS, *GUIDANCE):
        return dict(body) | {"metadata": metadata}
    spec = {key: value for key, value in (body.get("spec") or {}).items() if key == "nodeName"}
    return dict(body) | {"metadata": metadata, "spec": spec}


def _name(body: Mapping[str, Any]) -> Name:
    return body["metadata"].get("namespace", ""), body["metadata"]["name"]


def _version(body: Mapping[str, Any]) -> int:
    return int(body["metadata"]["resourceVersion"])
