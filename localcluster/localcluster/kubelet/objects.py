"""Kubernetes objects as the API server sends them: JSON dictionaries, and what every module asks of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

Json = dict[str, Any]


class Key(NamedTuple):
    """Names an object within its kind."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def key_of(thing: Json) -> Key:
    meta = thing["metadata"]
    return Key(meta.get("namespace", ""), meta["name"])


def uid_of(thing: Json) -> str:
    uid: str = thing["metadata"]["uid"]
    return uid


def pod_path(pod: Json) -> str:
    """A pod's place in the API."""
    key = key_of(pod)
    return f"/api/v1/namespaces/{key.namespace}/pods/{key.name}"


def is_terminating(pod: Json) -> bool:
    """Someone asked for its deletion; it may still run for its grace period."""
    return "deletionTimestamp" in pod["metadata"]


def is_terminal(pod: Json) -> bool:
    """All its containers ended for good."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def all_containers(pod: Json) -> list[Json]:
    """Init containers, then the others, in the order of the spec."""
    spec = pod["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def stamp(seconds: float) -> str:
    """Unix seconds -> RFC 3339 in whole seconds, Kubernetes' metav1.Time."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_stamp(seconds: float) -> str:
    """Unix seconds -> RFC 3339 in microseconds, Kubernetes' metav1.MicroTime (leases)."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds_of(timestamp: str) -> float:
    """RFC 3339 -> Unix seconds. Digits beyond microseconds (container logs have nine) are cut."""
    head, dot, tail = timestamp.partition(".")
    if not dot:
        return datetime.fromisoformat(timestamp).timestamp()
    digits = tail.rstrip("Z").split("+")[0].split("-")[0]
    zone = tail[len(digits) :]
    return datetime.fromisoformat(f"{head}.{digits[:6].ljust(6, '0')}{zone}").timestamp()
