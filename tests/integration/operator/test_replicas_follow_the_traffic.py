"""scaling.mode Managed: from an answer of Prometheus to the number of replicas, within the policy's GPUs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.operator.test_the_threshold_follows_the_metrics import series

ADeployment = Callable[..., dict[str, Any]]
APolicy = Callable[..., str]
Series = list[tuple[dict[str, str], float | str]]
SLO = {"ttft": {"milliseconds": 5000}}


def traffic(namespace: str, requests_per_second: float, *, pods: int = 4) -> Series:
    """Steps as in `series`, and requests of 100 prompt and 10 answer tokens that all keep their SLO.

    A step of 2,048 tokens takes 30 ms, so that one replica takes some hundred requests per second.
    """

    def of(signal: str, **labels: str) -> dict[str, str]:
        return {"namespace": namespace, "deployment": "chat", "signal": signal} | labels

    count = 120 * requests_per_second
    steps = [(labels, value) for labels, value in series(namespace, 257, pods=pods) if labels["signal"] != "running"]
    return [
        *steps,
        (of("finish_rate"), requests_per_second),
        (of("in_system_slope"), 0.0),
        (of("span_mean"), 30 * requests_per_second),
        (of("span_deviation"), 0.0),
        (of("prompt_tokens"), 100.0),
        (of("output_tokens"), 10.0),
        (of("prefix_hit_ratio"), 0.0),
        (of("running"), 4.0),
        (of("kv_usage"), 0.05),
        (of("kv_capacity", kv_cache_size_tokens="400000", block_size="16", num_gpu_blocks="25000"), 1.0),
        *((of(part, le=le), count) for part in ("ttft", "tpot") for le in ("1.0", "5.0", "+Inf")),
        (of("tpot_seconds"), 0.03),
    ]


def test_more_requests_bring_replicas_and_fewer_take_them_but_never_unseen(
    place: Any, prometheus: Any, a_deployment: ADeployment, a_policy: APolicy
) -> None:
    def replicas() -> int:
        return int(place.get("deployment", "chat")["spec"]["replicas"])

    def serves(count: int) -> bool:
        return place.get("sd", "chat").get("status", {}).get("ready") == f"{count}/{count}"

    a_policy(behavior={"replicas": {"stabilizationSeconds": 0}})
    prometheus.tell(traffic(place.namespace, 10.0))
    managed = {"mode": "Managed", "minReplicas": 1, "maxReplicas": 2}
    place.apply(a_deployment(scaling=managed, slo=SLO))
    place.eventually(lambda: serves(1))
    place.eventually(lambda: place.decisions("Replicas") and place.decisions("Replicas")[-1]["reason"] == "Demand")

    prometheus.tell(traffic(place.namespace, 900.0))
    place.eventually(lambda: serves(2))
    place.eventually(lambda: "Applied" in [d["outcome"] for d in place.decisions("Replicas")])
    (rise,) = [d for d in place.decisions("Replicas") if d["from"] != d["to"]]
    assert (rise["from"], rise["to"], rise["reason"]) == ("1", "2", "Demand")
    assert place.notes("ReplicasChanged")[0].startswith("replicas 1 -> 2: Demand (demand 900.00 requests/s; ")
    assert place.get("sd", "chat")["status"]["memory"]["replicas"]["highestWanted"] == 2

    prometheus.tell(None)
    place.eventually(lambda: place.decisions("Replicas")[-1]["reason"] == "PrometheusUnreachable")
    assert replicas() == 2

    # The forecast of the demand falls with a time constant of a minute: from 900 to what one replica takes in 40 s.
    prometheus.tell(traffic(place.namespace, 10.0))
    place.eventually(lambda: replicas() == 1)
    assert place.get("sd", "chat")["spec"]["replicas"] == 1, "the user's number is the user's"


def test_the_policys_gpus_are_the_ceiling_and_the_decision_says_so(
    place: Any, prometheus: Any, a_deployment: ADeployment, a_policy: APolicy
) -> None:
    a_policy(budget={"maxGPUs": 2})
    prometheus.tell(traffic(place.namespace, 5000.0))
    place.apply(a_deployment(scaling={"mode": "Managed", "maxReplicas": 3}, slo=SLO))
    place.eventually(lambda: any(d.get("limit") == "ClusterBudget" for d in place.decisions("Replicas")))
    assert "GPUs 2 of 2 in use" in place.decisions("Replicas")[-1]["message"]
    assert place.get("deployment", "chat")["spec"]["replicas"] == 1


def test_an_operator_that_was_killed_is_followed_by_one_that_holds_and_writes_nothing(
    place: Any,
    prometheus: Any,
    a_deployment: ADeployment,
    start: Callable[..., Any],
    installed: Path,
    audit: Any,
) -> None:
    flags = ("--instance", "restarted", "--decision-interval-seconds", "1", "--resync-seconds", "1")
    lease = ("--lease", "shift-system/shift-operator", "--lease-seconds", "12", "--prometheus-url", prometheus.url)
    first = start(installed, *flags, *lease)
    prometheus.tell(traffic(place.namespace, 300.0))
    managed = {"mode": "Managed", "minReplicas": 1, "maxReplicas": 3}
    body = a_deployment(replicas=2, scaling=managed, slo=SLO, shift={"mode": "Auto", "thresholdTokens": 16})
    body["metadata"]["labels"] = {"shiftparallel.io/operator": "restarted"}
    place.apply(body)

    def settled() -> bool:
        status = place.get("sd", "chat").get("status", {})
        return (
            status.get("ready") == "2/2"
            and {"Threshold", "Replicas"}
            == {
                decision["kind"]
                for decision in status.get("decisions", [])
                if decision["outcome"] in ("Applied", "Held")
            }
            and not any(decision["outcome"] == "Pending" for decision in status["decisions"])
        )

    place.eventually(settled)
    place.eventually(place.has("ConfigurationApplied", "True"))
    place.eventually(lambda: place.decisions("Threshold")[-1]["reason"] == "BestAlready")
    quiet_for(5, audit, place.namespace)
    first.process.kill()
    first.process.wait()
    before = place.get("sd", "chat")["status"]

    audit.mark()
    second = start(installed, *flags, *lease)
    place.eventually(lambda: any(line["message"] == "leading" for line in second.lines()))
    place.eventually(second.ready)
    ticks = 'shift_operator_decision_ticks_total{outcome="ok",policy=""}'
    place.eventually(lambda: second.metric(ticks) >= 5)
    assert [write for write in audit.writes() if f" {place.namespace}/" in write] == []
    assert place.get("sd", "chat")["status"] == before
    assert second.end() == 0


def quiet_for(seconds: float, audit: Any, namespace: str, patience: float = 60.0) -> None:
    """Waits until nothing has been written in the namespace for that long."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        audit.mark()
        time.sleep(seconds)
        if not [write for write in audit.writes() if f" {namespace}/" in write]:
            return
    pytest.fail(f"{namespace}: writes go on")
