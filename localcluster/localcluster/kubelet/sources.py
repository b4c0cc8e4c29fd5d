"""The ConfigMaps and Secrets that a pod refers to, read when asked for."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Literal

from localcluster.kubelet.api import Api, ApiError

SourceKind = Literal["configmap", "secret"]


@dataclass(frozen=True)
class Source:
    """A ConfigMap's or Secret's data, decoded."""

    kind: SourceKind
    namespace: str
    name: str
    data: dict[str, bytes]


class MissingSource(Exception):
    """The reference is not optional and the object is not there. The text is the kubelet's."""


async def fetch(api: Api, kind: SourceKind, namespace: str, name: str, *, optional: bool = False) -> Source:
    """The source's present content; empty if it is optional and absent. Raises MissingSource, ApiError."""
    try:
        item = await api.get(f"/api/v1/namespaces/{namespace}/{kind}s/{name}")
    except ApiError as error:
        if error.code != 404:
            raise
        if not optional:
            raise MissingSource(f'{kind} "{name}" not found') from error
        return Source(kind, namespace, name, {})
    encoded = {**item.get("binaryData", {}), **(item.get("data", {}) if kind == "secret" else {})}
    plain = item.get("data", {}) if kind == "configmap" else {}
    data = {key: base64.b64decode(value) for key, value in encoded.items()}
    data.update({key: value.encode() for key, value in plain.items()})
    return Source(kind, namespace, name, data)
