"""A child object as it is wanted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shift_operator.api import labels
from shift_operator.api.shiftdeployment import ShiftDeployment

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Manifest:
    """What we apply: exactly the fields that we own. Whatever else a live object has is left as it is."""

    body: Body

    @property
    def api_version(self) -> str:
        return str(self.body["apiVersion"])

    @property
    def kind(self) -> str:
        return str(self.body["kind"])

    @property
    def namespace(self) -> str:
        return str(self.body["metadata"]["namespace"])

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


def child(deployment: ShiftDeployment, api_version: str, kind: str, name: str, content: Body) -> Manifest:
    """A child of the deployment: in its namespace, with our labels, deleted with it by the garbage collector."""
    metadata = {
        "name": name,
        "namespace": deployment.namespace,
        "labels": labels.child_labels(deployment.name),
        "ownerReferences": [deployment.owner_reference()],
    }
    return Manifest({"apiVersion": api_version, "kind": kind, "metadata": metadata, **content})


def with_labels(manifest: Manifest, more: Mapping[str, str]) -> Manifest:
    """The manifest with further labels."""
    metadata = manifest.body["metadata"]
    return Manifest({**manifest.body, "metadata": {**metadata, "labels": {**metadata["labels"], **more}}})


def with_annotations(manifest: Manifest, annotations: Mapping[str, str]) -> Manifest:
    """The manifest with annotations."""
    return Manifest({**manifest.body, "metadata": {**manifest.body["metadata"], "annotations": dict(annotations)}})


def is_ours(live: Body, deployment: ShiftDeployment) -> bool:
    """Whether a live object is the deployment's child and was applied by us, so that we may delete it again."""
    managers = ((entry.get("manager"), entry.get("operation")) for entry in live["metadata"].get("managedFields") or ())
    return is_controlled_by(live, deployment) and (labels.FIELD_MANAGER, "Apply") in managers


def is_controlled_by(live: Body, deployment: ShiftDeployment) -> bool:
    """Whether a live object is the deployment's child, and not a foreign object with a child's name."""
    references = live["metadata"].get("ownerReferences") or []
    return any(r.get("controller") and r.get("uid") == deployment.metadata.uid for r in references)
