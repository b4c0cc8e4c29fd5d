"""A new version of the operator must not restart a single replica: the templates of these specs never change.

A hash here may change only together with the decision to restart every replica of every cluster, and with a line in
CHANGELOG.md that says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.pod import pod_template

EXAMPLES = Path(__file__).parents[3] / "examples"
EVERYTHING: dict[str, Any] = {
    "model": {
        "uri": "hf://org/name",
        "name": "served",
        "revision": "abc",
        "tokenSecretRef": {"name": "hf", "key": "token"},
        "cache": {"claimName": "models", "subPath": "hub"},
    },
    "engine": {
        "args": ["--enforce-eager"],
        "env": [
            {"name": "A", "value": "1"},
            {"name": "B", "value": ""},
            {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "D", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}},
        ],
        "imagePullSecrets": [{"name": "pull"}],
    },
    "scheduling": {
        "nodeSelector": {"a": "b"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "priorityClassName": "high",
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
        "affinity": {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 1,
                        "podAffinityTerm": {
                            "topologyKey": "kubernetes.io/hostname",
                            "labelSelector": {"matchLabels": {"app": "other"}},
                        },
                    }
                ]
            }
        },
    },
}


def digest(deployment: ShiftDeployment) -> str:
    text = json.dumps(pod_template(deployment), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "f4594356da88885b"),
        ({"model": {"uri": "pvc://models/llama"}}, "c4b0aef6cf37c91b"),
        (EVERYTHING, "3a1e914ede8df534"),
    ],
    ids=["minimal", "claim", "everything"],
)
def test_a_template_is_what_it_always_was(
    a_deployment: Callable[..., ShiftDeployment], changes: dict[str, Any], expected: str
) -> None:
    assert digest(a_deployment(**changes)) == expected


def test_nothing_of_an_operator_release_is_in_it(a_deployment: Callable[..., ShiftDeployment]) -> None:
    deployment = ShiftDeployment.from_body(yaml.safe_load((EXAMPLES / "llama-3.1-8b-h100.yaml").read_text()))
    assert pod_template(deployment) == pod_template(ShiftDeployment.from_body(deployment.to_body()))
    assert "annotations" not in pod_template(a_deployment())["metadata"]


def test_what_a_live_setting_says_restarts_nothing(a_deployment: Callable[..., ShiftDeployment]) -> None:
    live = a_deployment(
        replicas=3,
        slo={"ttft": {"milliseconds": 800}},
        scaling={"mode": "Managed", "maxReplicas": 4},
        disruption={"minAvailable": 2},
        networkPolicy={"enabled": True},
    )
    assert digest(live) == digest(a_deployment())
