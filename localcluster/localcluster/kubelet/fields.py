"""What a pod may know of itself: the downward API's fieldRef and resourceFieldRef, for env and volumes alike. Pure."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from fractions import Fraction

from localcluster.kubelet import quantity
from localcluster.kubelet.objects import Json

_KEYED = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class FieldError(Exception):
    """The pod has no such field, or it may not be referred to."""


@dataclass(frozen=True)
class Place:
    """What is known of a pod only once it is on its node."""

    node: str
    pod_ip: str
    host_ip: str
    allocatable: Json


def field_value(path: str, pod: Json, place: Place) -> str:
    """The value of `fieldPath`; an absent label or annotation is the empty string, as in the kubelet."""
    meta, spec = pod["metadata"], pod["spec"]
    if keyed := _KEYED.fullmatch(path):
        return str(meta.get(keyed[1], {}).get(keyed[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        pairs = meta.get(path.removeprefix("metadata."), {})
        return "\n".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in sorted(pairs.items()))
    known = {
        "metadata.name": meta["name"],
        "metadata.namespace": meta["namespace"],
        "metadata.uid": meta["uid"],
        "spec.nodeName": place.node,
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "status.podIP": place.pod_ip,
        "status.podIPs": place.pod_ip,
        "status.hostIP": place.host_ip,
        "status.hostIPs": place.host_ip,
    }
    if path not in known:
        raise FieldError(f"unsupported fieldPath: {path}; supported are {', '.join(known)}, labels and annotations")
    return str(known[path])


def resource_value(reference: Json, container: Json, place: Place) -> str:
    """`requests.cpu`, `limits.memory`, ...: in units of `divisor`, rounded up. A limit not set is the node's."""
    which, _, name = reference["resource"].partition(".")
    resources = container.get("resources", {})
    amount = resources.get(which, {}).get(name)
    if amount is None and which == "limits":
        amount = place.allocatable.get(name)
    divisor = quantity.parse(reference.get("divisor") or "1") or Fraction(1)
    return str(math.ceil(quantity.parse(amount or "0") / divisor))
