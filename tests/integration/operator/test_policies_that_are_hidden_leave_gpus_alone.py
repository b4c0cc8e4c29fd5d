"""An operator that may not list ClusterShiftPolicies: thresholds go by its flags, replicas stay, until it may."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.integration.operator.conftest import kubeconfig_of
from tests.integration.operator.test_replicas_follow_the_traffic import SLO, traffic

RELEASE = "unsighted"


def test_without_the_right_only_the_threshold_moves_and_with_it_the_policy_applies(
    cluster: Any,
    place: Any,
    prometheus: Any,
    a_deployment: Callable[..., dict[str, Any]],
    a_policy: Callable[..., str],
    helm_chart: Callable[..., str],
    start: Callable[..., Any],
    tmp_path: Path,
) -> None:
    granted = [body for body in yaml.safe_load_all(helm_chart(RELEASE)) if body]
    sees_policies = [body for body in granted if body["metadata"]["name"].endswith("-policies")]
    assert {body["kind"] for body in sees_policies} == {"ClusterRole", "ClusterRoleBinding"}
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all([b for b in granted if b not in sees_policies]))

    policy = a_policy(behavior={"replicas": {"stabilizationSeconds": 0}})
    prometheus.tell(traffic(place.namespace, 900.0))
    managed = {"mode": "Managed", "minReplicas": 1, "maxReplicas": 2}
    body = a_deployment(scaling=managed, slo=SLO, shift={"mode": "Auto", "thresholdTokens": 16})
    body["metadata"]["labels"] = {"shiftparallel.io/operator": RELEASE}
    place.apply(body)
    flags = ("--instance", RELEASE, "--decision-interval-seconds", "1", "--resync-seconds", "1")
    operator = start(
        kubeconfig_of(cluster, f"{RELEASE}-shift-operator", tmp_path), *flags, "--prometheus-url", prometheus.url
    )
    place.eventually(operator.ready)
    place.eventually(place.has("PolicyApplied", "Unknown", "PoliciesHidden"))
    assert place.condition("PolicyApplied")["message"] == (
        "the operator may not list clustershiftpolicies: its ClusterRole lacks that right; until they can be seen "
        "replicas and degree stay as they are"
    )
    place.eventually(lambda: "LessStepTime" in [d["reason"] for d in place.decisions("Threshold")])
    assert place.decisions("Replicas") == []
    assert place.get("deployment", "chat")["spec"]["replicas"] == 1

    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(sees_policies))
    place.eventually(place.has("PolicyApplied", "True", "PolicyFound"))
    assert f"policy {policy} applies" in place.condition("PolicyApplied")["message"]
    place.eventually(lambda: place.get("deployment", "chat")["spec"]["replicas"] == 2)
    assert operator.end() == 0
