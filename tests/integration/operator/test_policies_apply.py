"""ClusterShiftPolicies: each decides for the deployments that it selects, from the moment it is there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from tests.integration.operator.test_the_threshold_follows_the_metrics import series

ADeployment = Callable[..., dict[str, Any]]
APolicy = Callable[..., str]
MANAGED = {"mode": "Managed", "maxReplicas": 3}
SLO = {"ttft": {"milliseconds": 800}}


def test_an_advisory_policy_shows_everything_and_changes_nothing_until_it_enforces(
    place: Any, prometheus: Any, a_deployment: ADeployment, a_policy: APolicy
) -> None:
    name = a_policy(mode="Advisory")
    prometheus.tell(series(place.namespace, crossover=257))
    place.apply(a_deployment(shift={"mode": "Auto", "thresholdTokens": 16}))
    place.eventually(lambda: any(d["outcome"] == "Advised" for d in place.decisions("Threshold")))
    last = place.decisions("Threshold")[-1]
    assert (last["from"], last["reason"]) == ("16", "LessStepTime")
    assert int(last["to"]) > 200
    status = place.get("sd", "chat")["status"]
    assert status["shift"]["desired"] == {"generation": 1, "thresholdTokens": 16}
    assert place.condition("PolicyApplied")["message"] == (
        f"policy {name} applies: threshold Advisory, degree Advisory, replicas Advisory"
    )
    assert place.notes("ThresholdChanged") == []

    a_policy(mode="Enforce")
    place.eventually(lambda: place.get("sd", "chat")["status"]["shift"]["desired"]["thresholdTokens"] > 200)

    place.cluster.kubectl("delete", "clustershiftpolicy", name)
    place.eventually(place.has("PolicyApplied", "True", "NoPolicy"))


def test_a_deployment_that_relies_on_another_policy_keeps_its_replicas_and_says_so(
    place: Any, a_deployment: ADeployment, a_policy: APolicy
) -> None:
    nowhere = {"resourceName": "example.com/none"}
    place.apply(a_deployment(replicas=2, scheduling=nowhere, scaling=MANAGED | {"policyRef": "prod-gpus"}, slo=SLO))
    place.eventually(place.has("PolicyApplied", "False", "PolicyRefMismatch"))
    assert "scaling.policyRef is prod-gpus, but no policy selects" in place.condition("PolicyApplied")["message"]
    name = a_policy()
    place.eventually(lambda: f"but policy {name} applies" in place.condition("PolicyApplied")["message"])
    assert place.decisions("Replicas") == []

    place.apply(a_deployment(replicas=2, scheduling=nowhere, scaling=MANAGED | {"policyRef": name}, slo=SLO))
    place.eventually(place.has("PolicyApplied", "True", "PolicyFound"))
    place.eventually(lambda: place.decisions("Replicas"))
    assert place.get("deployment", "chat")["spec"]["replicas"] == 2


def test_a_policys_status_says_what_it_selects_and_what_its_prometheus_lacks(
    place: Any, prometheus: Any, audit: Any, a_deployment: ADeployment, a_policy: APolicy
) -> None:
    name = a_policy(budget={"maxGPUs": 8})

    def status() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(place.cluster.kubectl("get", "csp", name, "--output", "json"))
        return dict(found.get("status", {}))

    def finding(type_: str) -> tuple[str, str, str]:
        conditions = {c["type"]: c for c in status().get("conditions", [])}
        found = conditions.get(type_, {})
        return found.get("status", ""), found.get("reason", ""), found.get("message", "")

    place.eventually(lambda: finding("PrometheusAvailable")[:2] == ("False", "QueryFailed"))
    assert "503" in finding("PrometheusAvailable")[2]
    assert finding("MetricContractSatisfied")[:2] == ("Unknown", "NotChecked")

    prometheus.tell([])
    place.apply(a_deployment(shift={"mode": "Auto", "thresholdTokens": 16}))
    place.eventually(lambda: status().get("gpus") == "2/8")
    assert status()["deployments"] == 1
    # Checked once a minute, and with the first answer there was no pod yet.
    place.eventually(lambda: finding("MetricContractSatisfied")[:2] == ("False", "SeriesMissing"))
    assert "shift_batched_tokens_bucket: Absent" in finding("MetricContractSatisfied")[2]
    assert finding("WithinBudget") == ("True", "WithinBudget", "2 of 8 GPUs in use")

    audit.mark()
    time.sleep(4)
    assert [write for write in audit.writes() if "clustershiftpolicies" in write] == [], "nothing is new"
