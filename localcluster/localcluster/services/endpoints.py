"""Which pods stand behind a Service's port. Pure: the rules of the EndpointSlice controller and of kube-proxy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from localcluster.kubelet.objects import Json, all_containers, is_terminal, is_terminating


@dataclass(frozen=True, order=True)
class Endpoint:
    """Where a connection may go."""

    address: str
    port: int


@dataclass(frozen=True, order=True)
class Frontend:
    """A cluster IP and port on which a Service listens."""

    address: str
    port: int


def frontends(service: Json) -> list[tuple[Frontend, Json]]:
    """The TCP ports of a Service with a cluster IP, each with its entry in the spec. Headless, ExternalName: none."""
    spec = service["spec"]
    address = spec.get("clusterIP")
    if spec.get("type") == "ExternalName" or not address or address == "None":
        return []
    tcp = [port for port in spec.get("ports", []) if port.get("protocol", "TCP") == "TCP"]
    return [(Frontend(address, port["port"]), port) for port in tcp]


class Pods:
    """Pods by namespace and label, so that a thousand Services do not each look at a thousand pods."""

    def __init__(self, pods: Iterable[Json]) -> None:
        self._labelled: dict[tuple[str, str, str], list[Json]] = {}
        for pod in pods:
            meta = pod["metadata"]
            for key, value in meta.get("labels", {}).items():
                self._labelled.setdefault((meta["namespace"], key, value), []).append(pod)

    def selected(self, namespace: str, selector: Mapping[str, str]) -> list[Json]:
        """The pods that have all these labels; none for an empty selector."""
        sets = [self._labelled.get((namespace, key, value), []) for key, value in selector.items()]
        fewest = min(sets, key=len, default=[])
        return [pod for pod in fewest if selector.items() <= pod["metadata"]["labels"].items()]


def endpoints(service: Json, port: Json, pods: Pods) -> frozenset[Endpoint]:
    """Where new connections on this port may go.

    A pod counts if it is selected, has an address, is not terminating, and is ready or unready ones are published.
    """
    spec = service["spec"]
    found = set()
    for pod in pods.selected(service["metadata"]["namespace"], spec.get("selector") or {}):
        address = pod.get("status", {}).get("podIP")
        if not address or is_terminating(pod) or is_terminal(pod):
            continue
        if not (is_ready(pod) or spec.get("publishNotReadyAddresses")):
            continue
        number = target_port(port, pod)
        if number is not None:
            found.add(Endpoint(address, number))
    return frozenset(found)


def is_ready(pod: Json) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def target_port(port: Json, pod: Json) -> int | None:
    """The number, or the port of that name in this pod (pods of one Service may differ); None if there is none."""
    target = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target
    for container in all_containers(pod):
        for declared in container.get("ports", []):
            if declared.get("name") == target and declared.get("protocol", "TCP") == port.get("protocol", "TCP"):
                return int(declared["containerPort"])
    return None
