"""The rules of ClusterShiftPolicy and ShiftProfile on a real API server, each from both sides, and what it fills in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from shift_operator.api.policy import ClusterShiftPolicy
from shift_operator.api.profile import ShiftProfile

from localcluster import Cluster

Verdict = Callable[[dict[str, Any]], str]

EXAMPLES = Path(__file__).parents[3] / "examples"

PROFILE: dict[str, Any] = yaml.safe_load((EXAMPLES / "shiftprofile.yaml").read_text())["spec"]
SMALL, LARGE = PROFILE["curves"]
OTHER = {"sequence": 1, "tensor": 2, "kvTokens": 500_000}

FALLBACK = (
    "onMissingMetrics and fallbackAfterSeconds go together: write onMissingMetrics: Fallback with "
    "fallbackAfterSeconds, or onMissingMetrics: Hold without"
)
URL = (
    "prometheus.url must be an http or https address without user, password and query; write for example "
    "http://prometheus.monitoring:9090"
)
TLS = (
    "prometheus: caFile and insecureSkipVerify are about TLS, and url is not https; write an https:// url, or remove "
    "them"
)
TOKEN = (
    "prometheus.bearerTokenFile must lie in a folder /etc/prometheus-* of the operator's pod, where the chart mounts "
    "such files, without '..'; write for example /etc/prometheus-token/token"
)
HTTPS = "https://prometheus:9090"


def prometheus(**fields: Any) -> dict[str, Any]:
    return {"prometheus": {"url": HTTPS, **fields}}


def budget(*namespaces: dict[str, Any], gpus: int = 16) -> dict[str, Any]:
    return {"budget": {"maxGPUs": gpus, "namespaces": list(namespaces)}}


BAD_POLICIES: list[tuple[dict[str, Any], str, str]] = [
    ({"mode": "On"}, "spec.mode", 'supported values: "Enforce", "Advisory", "Disabled"'),
    ({"selector.namespaces": ["Team_A"]}, "spec.selector.namespaces[0]", "should match"),
    ({"selector.namespaces": ["a", "a"]}, "spec.selector.namespaces[1]", "Duplicate value"),
    ({"selector.namespaces": [f"n{i}" for i in range(65)]}, "spec.selector.namespaces", "must have at most 64 items"),
    ({"selector.labels": {f"l{i}": "" for i in range(17)}}, "spec.selector.labels", "must have at most 16 items"),
    (prometheus(url="prometheus:9090"), "spec.prometheus.url", URL),
    (prometheus(url="ftp://prometheus"), "spec.prometheus.url", URL),
    (prometheus(url="http://"), "spec.prometheus.url", URL),
    (prometheus(url="https://me:secret@prometheus"), "spec.prometheus.url", URL),
    (prometheus(url="https://prometheus/?a=b"), "spec.prometheus.url", URL),
    ({"prometheus": {}}, "spec.prometheus.url", "Required value"),
    (prometheus(url="http://p:9090", caFile="/etc/prometheus-ca/ca.crt"), "spec.prometheus.url", TLS),
    (prometheus(url="http://p:9090", insecureSkipVerify=True), "spec.prometheus.url", TLS),
    (
        prometheus(caFile="/etc/prometheus-ca/ca.crt", insecureSkipVerify=True),
        "spec.prometheus.insecureSkipVerify",
        "prometheus.insecureSkipVerify verifies nothing, so caFile has no use; remove one of them",
    ),
    (
        prometheus(bearerTokenFile="/var/run/secrets/kubernetes.io/serviceaccount/token"),
        "spec.prometheus.bearerTokenFile",
        TOKEN,
    ),
    (prometheus(bearerTokenFile="/etc/prometheus-token/../shadow"), "spec.prometheus.bearerTokenFile", TOKEN),
    (prometheus(caFile="ca.crt"), "spec.prometheus.caFile", "write for example /etc/prometheus-ca/ca.crt"),
    ({"signals.windowSeconds": 19}, "spec.signals.windowSeconds", "greater than or equal to 20"),
    ({"signals.maxAgeSeconds": 4}, "spec.signals.maxAgeSeconds", "greater than or equal to 5"),
    (
        {"signals": {"windowSeconds": 60, "maxAgeSeconds": 61}},
        "spec.signals.maxAgeSeconds",
        "signals: maxAgeSeconds 61 is above windowSeconds 60, so the window could be empty; lower maxAgeSeconds or "
        "raise windowSeconds",
    ),
    ({"intervalSeconds": 0}, "spec.intervalSeconds", "greater than or equal to 1"),
    (
        {"intervalSeconds": 121},
        "spec.intervalSeconds",
        "intervalSeconds 121 is above signals.windowSeconds 120, so traffic between two looks would go unseen; lower "
        "it, or raise the window",
    ),
    ({"onMissingMetrics": "Fallback"}, "spec.onMissingMetrics", FALLBACK),
    ({"fallbackAfterSeconds": 600}, "spec.onMissingMetrics", FALLBACK),
    (
        {"onMissingMetrics": "Fallback", "fallbackAfterSeconds": 59},
        "spec.fallbackAfterSeconds",
        "greater than or equal to 60",
    ),
    *(
        (
            {"mode": mode, f"behavior.{knob}.mode": more},
            f"spec.behavior.{knob}.mode",
            f"behavior.{knob}.mode {more} is more than the policy may do, its mode is {mode}; raise mode and lower the "
            "other knobs, or remove it",
        )
        for knob in ("threshold", "degree", "replicas")
        for mode, more in (("Advisory", "Enforce"), ("Disabled", "Advisory"))
    ),
    ({"behavior.threshold.minGainPercent": 51}, "spec.behavior.threshold.minGainPercent", "less than or equal to 50"),
    ({"behavior.degree.minGainPercent": 0}, "spec.behavior.degree.minGainPercent", "greater than or equal to 1"),
    ({"behavior.degree.holdSeconds": 59}, "spec.behavior.degree.holdSeconds", "greater than or equal to 60"),
    (
        {"behavior.replicas.stabilizationSeconds": 3601},
        "spec.behavior.replicas.stabilizationSeconds",
        "less than or equal to 3600",
    ),
    ({"budget": {}}, "spec.budget.maxGPUs", "Required value"),
    ({"budget.maxGPUs": -1}, "spec.budget.maxGPUs", "greater than or equal to 0"),
    (budget({"namespace": "a"}, {"namespace": "a"}), "spec.budget.namespaces[1]", "Duplicate value"),
    (budget({"namespace": "a", "weight": 0}), "spec.budget.namespaces[0].weight", "greater than or equal to 1"),
    (
        budget({"namespace": "a", "guaranteedGPUs": 9, "maxGPUs": 8}),
        "spec.budget.namespaces[0].guaranteedGPUs",
        "budget.namespaces: a has guaranteedGPUs 9 above maxGPUs 8; lower guaranteedGPUs or raise maxGPUs",
    ),
    (
        budget({"namespace": "a", "guaranteedGPUs": 9}, {"namespace": "b", "guaranteedGPUs": 8}),
        "spec.budget.maxGPUs",
        "budget: the guaranteedGPUs of all namespaces are 17, maxGPUs is 16; lower some, or raise maxGPUs",
    ),
    (
        {"selector.namespaces": ["a"]} | budget({"namespace": "b"}),
        "spec.budget.namespaces",
        "budget.namespaces names a namespace that selector.namespaces leaves out; add it there, or remove its share",
    ),
]

GOOD_POLICIES: list[dict[str, Any]] = [
    {},
    {"selector": {"namespaces": ["a", "b"], "labels": {"tier": "batch"}}, "mode": "Disabled"},
    {"mode": "Advisory", "behavior": {"replicas": {"mode": "Advisory"}, "degree": {"mode": "Disabled"}}},
    prometheus(bearerTokenFile="/etc/prometheus-token/token", caFile="/etc/prometheus-ca/ca.crt"),
    prometheus(insecureSkipVerify=True),
    prometheus(url="http://prometheus.monitoring:9090/tenant-a"),
    {"signals": {"windowSeconds": 60, "maxAgeSeconds": 60}, "intervalSeconds": 60},
    {"onMissingMetrics": "Fallback", "fallbackAfterSeconds": 60},
    {"budget.maxGPUs": 0},
    {"selector.namespaces": ["a"]} | budget({"namespace": "a", "guaranteedGPUs": 16, "maxGPUs": 16}),
    budget({"namespace": "a", "guaranteedGPUs": 9}, {"namespace": "b", "guaranteedGPUs": 7, "weight": 1000}),
]

BAD_PROFILES: list[tuple[dict[str, Any], str, str]] = [
    (
        {"key.degree": {"sequence": 3, "tensor": 1}},
        "spec.key.degree",
        "key.degree: sequence 3 x tensor 1 is 3, gpusPerReplica is 2; choose a pair whose product is 2",
    ),
    ({"key.gpu": ""}, "spec.key.gpu", "at least 1 chars"),
    ({"key.model": ...}, "spec.key.model", "Required value"),
    ({"key.engineVersion": ...}, "spec.key.engineVersion", "Required value"),
    ({"source": "Engine"}, "spec.source", 'supported values: "Operator", "User"'),
    ({"curves": []}, "spec.curves", "should have at least 1 items"),
    (
        {"curves": [LARGE]},
        "spec.curves",
        "curves: the curve of small steps is missing; add one with sequence 1 and tensor 2",
    ),
    (
        {"curves": [SMALL]},
        "spec.curves",
        "curves: the curve of large steps is missing; add one with sequence 2 and tensor 1",
    ),
    (
        {"curves": [SMALL, LARGE, SMALL | {"tensor": 4}]},
        "spec.curves",
        "curves: sequence x tensor of every curve must be key.gpusPerReplica; remove curves of other replicas",
    ),
    ({"curves": [SMALL, LARGE, LARGE]}, "spec.curves[2]", "Duplicate value"),
    ({"curves": [SMALL, LARGE | {"points": LARGE["points"][:1]}]}, "points", "should have at least 2 items"),
    (
        {"curves": [SMALL, LARGE | {"points": LARGE["points"][::-1]}]},
        "spec.curves[1].points",
        "curves: the points must be in ascending order of tokens; sort them",
    ),
    (
        {"curves": [SMALL, LARGE | {"points": [{"tokens": 1, "microseconds": 0}, {"tokens": 2, "microseconds": 1}]}]},
        "spec.curves[1].points[0].microseconds",
        "greater than or equal to 1",
    ),
    ({"crossoverTokens": 131_073}, "spec.crossoverTokens", "less than or equal to 131072"),
    ({"kvTokens": ...}, "spec.kvTokens", "Required value"),
    ({"kvTokens": 0}, "spec.kvTokens", "greater than or equal to 1"),
    ({"otherDegrees": [OTHER | {"kvTokens": -1}]}, "spec.otherDegrees[0].kvTokens", "greater than or equal to 0"),
    (
        {"otherDegrees": [OTHER | {"tensor": 4}]},
        "spec.otherDegrees",
        "otherDegrees: sequence x tensor of every degree must be key.gpusPerReplica; remove degrees of other replicas",
    ),
    ({"otherDegrees": [OTHER, OTHER]}, "spec.otherDegrees[1]", "Duplicate value"),
    ({"fitErrorPercent": -1}, "spec.fitErrorPercent", "greater than or equal to 0"),
]

GOOD_PROFILES: list[dict[str, Any]] = [
    {},
    {"key.revision": "abc", "source": "Operator", "crossoverTokens": ..., "fitErrorPercent": 4},
    {"key.degree": {"sequence": 1, "tensor": 2}, "curves": [SMALL]},
    {"otherDegrees": [OTHER, OTHER | {"sequence": 2, "tensor": 1, "kvTokens": 0}]},
]


@pytest.fixture
def policy(verdict_on: Any, changed: Any) -> Verdict:
    return lambda changes: str(verdict_on("ClusterShiftPolicy", changed({}, changes)))


@pytest.fixture
def profile(verdict_on: Any, changed: Any) -> Verdict:
    return lambda changes: str(verdict_on("ShiftProfile", changed(PROFILE, changes)))


def ids(cases: list[tuple[dict[str, Any], str, str]]) -> list[str]:
    return [f"{i}-{case[1]}" for i, case in enumerate(cases)]


@pytest.mark.parametrize(("changes", "field", "sentence"), BAD_POLICIES, ids=ids(BAD_POLICIES))
def test_a_policy_outside_a_rule_is_refused(
    policy: Verdict, changes: dict[str, Any], field: str, sentence: str
) -> None:
    refusal = policy(changes)
    assert field in refusal
    assert sentence in refusal


@pytest.mark.parametrize("changes", GOOD_POLICIES, ids=range(len(GOOD_POLICIES)))
def test_a_policy_inside_every_rule_is_accepted(policy: Verdict, changes: dict[str, Any]) -> None:
    assert policy(changes) == "accepted"


@pytest.mark.parametrize(("changes", "field", "sentence"), BAD_PROFILES, ids=ids(BAD_PROFILES))
def test_a_profile_outside_a_rule_is_refused(
    profile: Verdict, changes: dict[str, Any], field: str, sentence: str
) -> None:
    refusal = profile(changes)
    assert field in refusal
    assert sentence in refusal


@pytest.mark.parametrize("changes", GOOD_PROFILES, ids=range(len(GOOD_PROFILES)))
def test_a_profile_inside_every_rule_is_accepted(profile: Verdict, changes: dict[str, Any]) -> None:
    assert profile(changes) == "accepted"


def test_a_profiles_key_cannot_be_changed_and_its_curves_can(crd: Cluster, answer_on: Any, changed: Any) -> None:
    def applied(changes: dict[str, Any]) -> str:
        return str(answer_on("ShiftProfile", "kept", changed(PROFILE, changes)))

    assert applied({}) == "accepted"
    assert applied({"kvTokens": 1000}) == "accepted"
    assert ("key cannot be changed, the measurements are of that replica; create another ShiftProfile") in applied(
        {"key.engineVersion": "0.2.0"}
    )
    crd.kubectl("delete", "sp", "kept")


def test_defaults_are_those_of_the_types(crd: Cluster, answer_on: Any) -> None:
    """An almost empty policy, as the server stores it and as the types read it, is the same."""
    assert answer_on("ClusterShiftPolicy", "sparse", {"budget": {"maxGPUs": 8}}) == "accepted"
    stored = json.loads(crd.kubectl("get", "csp", "sparse", "-o", "json"))
    assert stored["spec"] == {
        "mode": "Enforce",
        "signals": {"windowSeconds": 120, "maxAgeSeconds": 60},
        "intervalSeconds": 15,
        "behavior": {
            "threshold": {"minGainPercent": 2},
            "degree": {"minGainPercent": 10, "holdSeconds": 1800},
            "replicas": {"stabilizationSeconds": 300},
        },
        "onMissingMetrics": "Hold",
        "budget": {"maxGPUs": 8},
    }
    read = ClusterShiftPolicy.from_body(stored)
    assert read == ClusterShiftPolicy.from_body(stored | {"spec": {"budget": {"maxGPUs": 8}}})
    assert read.to_body()["spec"]["budget"]["maxGPUs"] == 8
    crd.kubectl("delete", "csp", "sparse")


def test_the_examples_are_accepted_and_shown_in_columns(crd: Cluster) -> None:
    crd.kubectl("create", "--validate=strict", "-f", str(EXAMPLES / "clustershiftpolicy.yaml"))
    crd.kubectl("create", "--validate=strict", "-f", str(EXAMPLES / "shiftprofile.yaml"))
    header, row = crd.kubectl("get", "csp", "teams", "--no-headers=false").splitlines()
    assert header.split() == ["NAME", "MODE", "DEPLOYMENTS", "GPUS", "CONTRACT", "AGE"]
    assert row.split()[:2] == ["teams", "Enforce"]
    header, row = crd.kubectl("get", "sp", "tiny-2x1", "--no-headers=false").splitlines()
    assert header.split() == ["NAME", "MODEL", "GPU", "SEQUENCE", "TENSOR", "CROSSOVER", "SOURCE", "AGE"]
    assert row.split()[:7] == ["tiny-2x1", "file:///models/tiny", "NVIDIA-H100-80GB-HBM3", "2", "1", "800", "User"]
    found = json.loads(crd.kubectl("get", "sp", "tiny-2x1", "-o", "json"))
    assert str(ShiftProfile.from_body(found).key.degree) == "2x1"
    crd.kubectl("delete", "csp/teams", "sp/tiny-2x1")
