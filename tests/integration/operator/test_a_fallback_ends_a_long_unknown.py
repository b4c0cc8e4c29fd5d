"""onMissingMetrics: Fallback, with a Prometheus that goes away: first everything is held, then it is the spec's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.integration.operator.test_replicas_follow_the_traffic import SLO, traffic

AFTER_SECONDS = 60  # the least that a policy may say


def test_the_specs_threshold_and_replicas_come_back_after_a_while_and_not_before(
    place: Any, prometheus: Any, a_deployment: Callable[..., dict[str, Any]], a_policy: Callable[..., str]
) -> None:
    def replicas() -> int:
        return int(place.get("deployment", "chat")["spec"]["replicas"])

    def threshold() -> int:
        return int(place.get("sd", "chat")["status"]["shift"]["desired"]["thresholdTokens"])

    a_policy(
        behavior={"replicas": {"stabilizationSeconds": 0}},
        onMissingMetrics="Fallback",
        fallbackAfterSeconds=AFTER_SECONDS,
    )
    prometheus.tell(traffic(place.namespace, 10.0))
    managed = {"mode": "Managed", "minReplicas": 1, "maxReplicas": 2}
    auto = {"mode": "Auto", "thresholdTokens": 16}
    place.apply(a_deployment(replicas=2, scaling=managed, slo=SLO, shift=auto))
    place.eventually(place.has("Available", "True"))
    place.eventually(lambda: replicas() == 1 and threshold() > 16)
    decided = threshold()

    prometheus.tell(None)

    def reasons() -> set[str]:
        return {place.decisions(kind)[-1]["reason"] for kind in ("Threshold", "Replicas")}

    place.eventually(lambda: reasons() == {"PrometheusUnreachable"})
    assert (replicas(), threshold()) == (1, decided)
    place.eventually(lambda: (replicas(), threshold()) == (2, 16))
    for kind in ("Threshold", "Replicas"):
        (move,) = [decision for decision in place.decisions(kind) if decision["reason"] == "Fallback"]
        waited = re.match(r"unknown for (\d+) s; ", move["message"])
        assert waited is not None, move
        assert int(waited[1]) >= AFTER_SECONDS
    place.eventually(place.has("ConfigurationApplied", "True"))
    place.eventually(lambda: place.get("sd", "chat")["status"]["ready"] == "2/2")
