"""The PodDisruptionBudget and the NetworkPolicy; the PodMonitor and the InferencePool, which need their kinds."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.plan import plan
from shift_operator.planning.schedule import next_schedule

Build = Callable[..., ShiftDeployment]
SELECTOR = {"matchLabels": {"app.kubernetes.io/name": "shift-engine", "shiftparallel.io/deployment": "chat"}}


def specs(deployment: ShiftDeployment, kinds: Collection[str] = ()) -> dict[str, Any]:
    manifests = plan(deployment, next_schedule(deployment.spec, None), 1, kinds)
    return {manifest.kind: manifest.body.get("spec") for manifest in manifests}


def test_one_replica_at_a_time_may_be_evicted(a_deployment: Build) -> None:
    assert specs(a_deployment())["PodDisruptionBudget"] == {
        "maxUnavailable": 1,
        "selector": SELECTOR,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }


def test_the_user_says_how_many_must_stay(a_deployment: Build) -> None:
    budget = specs(a_deployment(disruption={"minAvailable": 3}))["PodDisruptionBudget"]
    assert budget["minAvailable"] == 3
    assert "maxUnavailable" not in budget


def test_a_network_policy_is_the_users_choice(a_deployment: Build) -> None:
    assert "NetworkPolicy" not in specs(a_deployment())
    policy = specs(a_deployment(networkPolicy={"enabled": True}))["NetworkPolicy"]
    assert policy["podSelector"] == SELECTOR
    assert policy["policyTypes"] == ["Ingress"]
    (rule,) = policy["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 8000}]
    operator = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app.kubernetes.io/name": "shift-operator"}}}
    assert rule["from"] == [operator, {"podSelector": {}}], "the operator, and everyone in the namespace"


def test_a_network_policy_lets_in_whom_the_user_names_and_the_operator(a_deployment: Build) -> None:
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    policy = specs(a_deployment(networkPolicy={"enabled": True, "allowFrom": [monitoring]}))["NetworkPolicy"]
    assert policy["ingress"][0]["from"][1:] == [monitoring]


def test_kinds_that_the_cluster_lacks_are_left_out(a_deployment: Build) -> None:
    assert {"PodMonitor", "InferencePool"}.isdisjoint(specs(a_deployment()))
    only = specs(a_deployment(), {"PodMonitor", "SomethingElse"})
    assert "PodMonitor" in only
    assert "InferencePool" not in only


def test_the_metrics_get_the_deployments_name_as_the_query_needs_it(a_deployment: Build) -> None:
    monitor = specs(a_deployment(), {"PodMonitor"})["PodMonitor"]
    assert monitor["selector"] == SELECTOR
    assert monitor["podMetricsEndpoints"] == [
        {
            "port": "http",
            "path": "/metrics",
            "interval": "15s",
            "relabelings": [
                {
                    "action": "replace",
                    "sourceLabels": ["__meta_kubernetes_pod_label_shiftparallel_io_deployment"],
                    "targetLabel": "deployment",
                }
            ],
        }
    ]


def test_a_gateway_asks_the_picker_that_is_named_or_the_one_beside(a_deployment: Build) -> None:
    def picker(**gateway: Any) -> dict[str, Any]:
        pool = specs(a_deployment(gateway=gateway), {"InferencePool"})["InferencePool"]
        assert pool["selector"] == SELECTOR
        assert pool["targetPorts"] == [{"number": 8000}]
        reference: dict[str, Any] = pool["endpointPickerRef"]
        return reference

    assert picker() == {"kind": "Service", "name": "chat-epp", "port": {"number": 9002}, "failureMode": "FailOpen"}
    named = picker(endpointPicker={"serviceName": "picker", "port": 9003, "failureMode": "FailClose"})
    assert (named["name"], named["port"], named["failureMode"]) == ("picker", {"number": 9003}, "FailClose")
