"""PodMonitor and InferencePool: their children appear when somebody installs the kind, and the operator outlives it.

The CRDs are cut down to what we write, with the defaults that the real ones fill in.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.served import served

ADeployment = Callable[..., dict[str, Any]]

STRING = {"type": "string"}
SELECTOR = {
    "type": "object",
    "properties": {"matchLabels": {"type": "object", "additionalProperties": STRING}},
}
RELABELING = {
    "type": "object",
    "properties": {
        "action": {"type": "string", "default": "replace"},
        "sourceLabels": {"type": "array", "items": STRING},
        "targetLabel": STRING,
    },
}
POD_MONITOR = {
    "selector": SELECTOR,
    "podMetricsEndpoints": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "port": STRING,
                "path": STRING,
                "interval": STRING,
                "relabelings": {"type": "array", "items": RELABELING},
            },
        },
    },
}
PORT = {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}
INFERENCE_POOL = {
    "selector": SELECTOR,
    "targetPorts": {
        "type": "array",
        "items": PORT,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["number"],
    },
    "endpointPickerRef": {
        "type": "object",
        "properties": {
            "group": {"type": "string", "default": ""},
            "kind": {"type": "string", "default": "Service"},
            "name": STRING,
            "port": PORT,
            "failureMode": {"type": "string", "default": "FailClose"},
        },
    },
}


def crd(group: str, kind: str, properties: dict[str, Any]) -> dict[str, Any]:
    plural = f"{kind.lower()}s"
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{group}",
            "annotations": {"api-approved.kubernetes.io": "unapproved, cut down for a test"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }


KINDS = {
    "podmonitors.monitoring.coreos.com": crd("monitoring.coreos.com", "PodMonitor", POD_MONITOR),
    "inferencepools.inference.networking.k8s.io": crd("inference.networking.k8s.io", "InferencePool", INFERENCE_POOL),
}


@pytest.fixture
def install(cluster: Any) -> Iterator[Callable[[str], None]]:
    """Installs one of KINDS; all are gone after the test."""

    def install(name: str) -> None:
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(KINDS[name]))
        served(cluster, name)

    yield install
    cluster.kubectl("delete", "crd", *KINDS, "--ignore-not-found")


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_that_is_installed_later_gets_its_child(
    place: Any, a_deployment: ADeployment, operator: Any, install: Callable[[str], None], audit: Any, name: str
) -> None:
    place.apply(a_deployment(replicas=0))
    place.eventually(place.has("Progressing", "True", "RolloutComplete"))
    install(name)
    place.eventually(lambda: place.find(name, "chat"))
    child = place.get(name, "chat")
    assert child["metadata"]["ownerReferences"][0]["name"] == "chat"
    assert child["spec"]["selector"]["matchLabels"]["shiftparallel.io/deployment"] == "chat"

    # The server's defaults are no difference: nothing is written once it is there.
    place.eventually(place.has("Degraded", "False"))
    audit.mark()
    time.sleep(3)
    assert [write for write in audit.writes() if f" {place.namespace}/" in write] == []

    patch = json.dumps({"spec": {"selector": {"matchLabels": {"shiftparallel.io/deployment": "other"}}}})
    place.kubectl("patch", name, "chat", "--type=merge", "-p", patch, "--field-manager=a-colleague")
    wanted = child["spec"]["selector"]
    place.eventually(lambda: place.get(name, "chat")["spec"]["selector"] == wanted)
    place.kubectl("delete", name, "chat")
    place.eventually(lambda: place.find(name, "chat"))

    place.cluster.kubectl("delete", "crd", name)
    place.eventually(lambda: any(line["message"] == "optional kind gone" for line in operator.lines()))
    place.apply(a_deployment(replicas=0, shift={"mode": "Fixed", "thresholdTokens": 300}))
    place.eventually(lambda: place.get("sd", "chat")["status"]["shift"]["desired"]["thresholdTokens"] == 300)
    assert operator.process.poll() is None
    place.eventually(place.has("Degraded", "False"))  # the API server refused the child while the kind was going
