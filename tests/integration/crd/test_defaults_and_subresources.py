"""What the API server does with an accepted spec: fills in defaults, scales it, keeps status apart, shows columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from shift_operator.api.shiftdeployment import ShiftDeployment

from localcluster import Cluster

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))
DEPLOYMENTS = [path for path in EXAMPLES if "kind: ShiftDeployment" in path.read_text()]


def get(cluster: Cluster, namespace: str, name: str = "chat") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cluster.kubectl("-n", namespace, "get", "sd", name, "-o", "json"))
    return found


def test_defaults_are_those_of_the_types(answer: Any, crd: Cluster, namespace: str) -> None:
    assert answer() == "accepted"
    spec = get(crd, namespace)["spec"]
    assert spec["shift"] == {"mode": "Auto", "thresholdTokens": 512, "thresholdRange": {"min": 16, "max": 8192}}
    assert spec["replicas"] == 1
    assert spec["suspend"] is False
    assert spec["scaling"] == {"mode": "Fixed"}
    assert spec["rollout"] == {
        "strategy": "Auto",
        "maxSurge": 1,
        "progressDeadlineSeconds": 1800,
        "autoRollback": True,
        "capacityDeadlineSeconds": 60,
    }
    assert spec["drain"] == {"timeoutSeconds": 120}
    assert spec["scheduling"] == {"resourceName": "nvidia.com/gpu"}


def test_a_part_that_is_given_keeps_the_defaults_of_the_rest(answer: Any, crd: Cluster, namespace: str) -> None:
    assert answer({"shift": {"thresholdRange": {"max": 1024}}}) == "accepted"
    assert get(crd, namespace)["spec"]["shift"] == {
        "mode": "Auto",
        "thresholdTokens": 512,
        "thresholdRange": {"min": 16, "max": 1024},
    }


def test_what_the_server_filled_in_is_what_the_types_would(answer: Any, crd: Cluster, namespace: str) -> None:
    assert answer() == "accepted"
    body = get(crd, namespace)
    sparse = body | {"spec": {name: body["spec"][name] for name in ("model", "engine", "parallelism")}}
    assert ShiftDeployment.from_body(body) == ShiftDeployment.from_body(sparse)


def test_kubectl_scale_changes_the_replicas(answer: Any, crd: Cluster, namespace: str) -> None:
    assert answer() == "accepted"
    crd.kubectl("-n", namespace, "scale", "sd/chat", "--replicas=3")
    assert get(crd, namespace)["spec"]["replicas"] == 3


def test_the_status_is_a_subresource_with_columns(answer: Any, crd: Cluster, namespace: str) -> None:
    assert answer() == "accepted"
    status = {
        "ready": "1/2",
        "degree": "4x2",
        "shift": {
            "desired": {"thresholdTokens": 768, "generation": 2},
            "applied": {"thresholdTokens": 640, "generation": 1, "pods": 0, "ranks": 0},
        },
        "conditions": [
            {
                "type": "Available",
                "status": "True",
                "reason": "ReplicasReady",
                "message": "1 of 2 replicas serve",
                "lastTransitionTime": "2026-01-02T03:04:05Z",
            }
        ],
    }
    crd.kubectl(
        "-n",
        namespace,
        "patch",
        "sd/chat",
        "--subresource=status",
        "--type=merge",
        "-p",
        json.dumps({"status": status}),
    )
    header, row = crd.kubectl("-n", namespace, "get", "sd", "--no-headers=false").splitlines()
    assert header.split() == ["NAME", "READY", "DEGREE", "SHIFT", "THRESHOLD", "AVAILABLE", "AGE"]
    assert row.split()[:6] == ["chat", "1/2", "4x2", "Auto", "640", "True"]
    header, row = crd.kubectl("-n", namespace, "get", "sd", "-o", "wide", "--no-headers=false").splitlines()
    assert {"MODEL", "GPUS"} <= set(header.split())
    assert {"hf://org/name", "8"} <= set(row.split())
    assert get(crd, namespace)["metadata"]["generation"] == 1
    crd.kubectl("-n", namespace, "wait", "sd/chat", "--for=condition=Available", "--timeout=240s")


@pytest.mark.parametrize("path", DEPLOYMENTS, ids=lambda path: path.name)
def test_the_examples_are_accepted(crd: Cluster, namespace: str, path: Path) -> None:
    crd.kubectl("-n", namespace, "create", "--validate=strict", "-f", str(path))
    name = yaml.safe_load(path.read_text())["metadata"]["name"]
    assert ShiftDeployment.from_body(get(crd, namespace, name)).name == name


def test_kubectl_explain_has_the_documentation(crd: Cluster) -> None:
    text = " ".join(crd.kubectl("explain", "shiftdeployment.spec.shift.thresholdTokens").split())
    assert "Unit: tokens per engine step. Default: 512. Takes effect live" in text
