"""The objects of the cluster as last seen, in memory: `observe` reads them here, so a reconcile costs no request.

Three feeds, all through `put`, `drop` and `replace`: kopf's watches, the answers of our own writes (so that the next
reconcile does not write again what a watch has not echoed yet), and a list of every kind at start and each resync. That
list is what notices objects deleted while a watch was cut: a watch that lists anew only tells what is there.

The feeds overtake each other. A resourceVersion is a growing integer of one cluster, so the newer one wins.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from shift_operator.cluster.client import Body, Cluster
from shift_operator.cluster.resources import PODS, SHIFT_DEPLOYMENTS, WATCHED, Resource

Name = tuple[str, str]
"""(namespace, name) of an object, or of the ShiftDeployment that an object's label names."""


class Cache:
    """The last seen object of each kind and name.

    `owner_label` is the label that names an object's ShiftDeployment; `selector` finds the objects that carry ours.
    """

    def __init__(self, owner_label: str, selector: str) -> None:
        self.owner_label = owner_label
        self.selector = selector
        self._objects: dict[Resource, dict[Name, Body]] = {resource: {} for resource in WATCHED}
        self._pods: defaultdict[Name, set[str]] = defaultdict(set)

    def get(self, resource: Resource, namespace: str, name: str) -> Body | None:
        """The object, or None where we know of none. Do not change it: it is the cache's own."""
        return self._objects[resource].get((namespace, name))

    def pods(self, namespace: str, deployment: str) -> list[Body]:
        """The pods labelled with this ShiftDeployment, by name."""
        return [self._objects[PODS][namespace, pod] for pod in sorted(self._pods.get((namespace, deployment), ()))]

    def names(self, resource: Resource = SHIFT_DEPLOYMENTS) -> list[Name]:
        """The (namespace, name) of every object of a kind."""
        return sorted(self._objects[resource])

    def owner_of(self, resource: Resource, body: Mapping[str, Any]) -> Name | None:
        """Which ShiftDeployment a change of this object concerns: itself, or the one its label names."""
        metadata = body["metadata"]
        if resource is SHIFT_DEPLOYMENTS:
            return metadata["namespace"], metadata["name"]
        owner = (metadata.get("labels") or {}).get(self.owner_label)
        return (metadata["namespace"], owner) if owner else None

    def put(self, resource: Resource, body: Mapping[str, Any]) -> bool:
        """Keeps this version of an object if none as new is known. Whether it is news, not an echo of our write."""
        name = _name(body)
        known = self._objects[resource].get(name)
        if known is not None and _version(known) >= _version(body):
            return False
        self._remember(resource, name, _slim(resource, body))
        return True

    def drop(self, resource: Resource, body: Mapping[str, Any]) -> bool:
        """Forgets a deleted object, whose last state is `body`, but no later one of its name. Whether it was known."""
        name = _name(body)
        known = self._objects[resource].get(name)
        if known is None or _version(known) > _version(body):
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
        listed = set()
        for body in bodies:
            listed.add(_name(body))
            self.put(resource, body)
        gone = [
            name
            for name, body in self._objects[resource].items()
            if name not in listed and namespace in (None, name[0]) and _version(body) <= version
        ]
        owners = [self.owner_of(resource, self._objects[resource][name]) for name in gone]
        for name in gone:
            self._forget(resource, name)
        return [owner for owner in owners if owner is not None]

    async def relist(self, cluster: Cluster, namespaces: Iterable[str | None] = (None,)) -> list[Name]:
        """Lists every kind and takes it over; returns the owners of what had vanished unnoticed."""
        vanished = []
        for resource, namespace in ((r, n) for n in namespaces for r in WATCHED):
            selector = "" if resource is SHIFT_DEPLOYMENTS else self.selector
            bodies: list[Body] = []
            version = 0
            async for page in cluster.list(resource, namespace, selector):
                # A list leaves out its objects' kind. Slimmed page by page, so that one fat page at most is held.
                kind = {"apiVersion": resource.api_version, "kind": resource.kind}
                bodies += [_slim(resource, kind | body) for body in page.bodies]
                version = page.version
            vanished += self.replace(resource, namespace, bodies, version)
        return vanished

    def _remember(self, resource: Resource, name: Name, body: Body) -> None:
        self._forget(resource, name)
        self._objects[resource][name] = body
        owner = self.owner_of(resource, body)
        if resource is PODS and owner is not None:
            self._pods[owner].add(name[1])

    def _forget(self, resource: Resource, name: Name) -> None:
        body = self._objects[resource].pop(name, None)
        if resource is not PODS or body is None:
            return
        owner = self.owner_of(PODS, body)
        if owner is not None and owner in self._pods:
            self._pods[owner].discard(name[1])
            if not self._pods[owner]:
                del self._pods[owner]


def _slim(resource: Resource, body: Mapping[str, Any]) -> Body:
    """The object without what no reader of ours looks at: of pods most of the spec, and who set which field.

    Of the children that record stays: it tells what of them is ours, and who changed it.
    """
    if resource is not PODS and resource is not SHIFT_DEPLOYMENTS:
        return dict(body)
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    if resource is SHIFT_DEPLOYMENTS:
        return dict(body) | {"metadata": metadata}
    spec = {key: value for key, value in (body.get("spec") or {}).items() if key == "nodeName"}
    return dict(body) | {"metadata": metadata, "spec": spec}


def _name(body: Mapping[str, Any]) -> Name:
    return body["metadata"]["namespace"], body["metadata"]["name"]


def _version(body: Mapping[str, Any]) -> int:
    return int(body["metadata"]["resourceVersion"])
