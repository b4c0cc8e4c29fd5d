"""Mode Auto: from an answer of Prometheus to the engines."""

import time
from collections.abc import Callable
from typing import Any

ADeployment = Callable[..., dict[str, Any]]
TENSOR, SEQUENCE = {"sequence": "1", "tensor": "2"}, {"sequence": "2", "tensor": "1"}


def series(namespace: str, crossover: int, *, pods: int = 1) -> list[tuple[dict[str, str], float | str]]:
    """A window of 500 steps of up to 64 and 500 of up to 1024 tokens; the two curves cross at `crossover` tokens."""

    def of(signal: str, **labels: str) -> dict[str, str]:
        return {"namespace": namespace, "deployment": "chat", "signal": signal} | labels

    counts = {"32": 0, "64": 500, "512": 500, "1024": 1000, "2048": 1000, "+Inf": 1000}
    tensor = {1: 0.010, crossover: 0.020, 2048: 0.400}
    sequence = {1: 0.019, crossover: 0.020, 2048: 0.030}
    return [
        *((of("step_sizes", le=le), float(count)) for le, count in counts.items()),
        *((of("steps", **degree), 500.0) for degree in (TENSOR, SEQUENCE)),
        *((of("step_time", tokens=str(n), **TENSOR), seconds) for n, seconds in tensor.items()),
        *((of("step_time", tokens=str(n), **SEQUENCE), seconds) for n, seconds in sequence.items()),
        (of("max_batched_tokens"), 2048.0),
        (of("max_sequences"), 256.0),
        (of("pods_reporting"), float(pods)),
        (of("sampled_at"), "now"),
        *((of(f"threshold_{end}"), 16.0) for end in ("low", "high")),
        *((of(f"generation_{end}"), 1.0) for end in ("low", "high")),
        (of("running"), 1.0),
        (of("waiting"), 0.0),
    ]


def test_a_better_threshold_is_decided_applied_and_told(place: Any, prometheus: Any, a_deployment: ADeployment) -> None:
    place.apply(a_deployment(shift={"mode": "Auto", "thresholdTokens": 16}))
    place.eventually(place.has("ConfigurationApplied", "True"))
    prometheus.tell(series(place.namespace, crossover=257))
    place.eventually(place.has("MetricsAvailable", "True", "MetricsFound"))
    place.eventually(lambda: place.get("sd", "chat")["status"]["shift"]["applied"]["thresholdTokens"] > 200)

    def moves() -> list[dict[str, Any]]:
        decisions: list[dict[str, Any]] = place.get("sd", "chat")["status"]["decisions"]
        return [decision for decision in decisions if decision["from"] != decision["to"]]

    place.eventually(lambda: [move["outcome"] for move in moves()] == ["Applied"])
    (move,) = moves()
    assert (move["kind"], move["from"], move["reason"]) == ("Threshold", "16", "LessStepTime")
    assert "gain" in move["message"]
    assert place.notes("ThresholdChanged")[0].startswith(f"threshold 16 -> {move['to']}: LessStepTime (")


def test_fewer_reporting_pods_than_ready_ones_hold_the_threshold(
    place: Any, prometheus: Any, a_deployment: ADeployment
) -> None:
    place.apply(a_deployment(replicas=2, shift={"mode": "Auto", "thresholdTokens": 16}))
    place.eventually(lambda: place.condition("ConfigurationApplied").get("message") == "2 of 2 pods run generation 1")
    prometheus.tell(series(place.namespace, crossover=257, pods=1))
    place.eventually(place.has("MetricsAvailable", "False", "MetricsPartial"))
    assert place.condition("MetricsAvailable")["message"] == "1 of 2 ready pods report"
    status = place.get("sd", "chat")["status"]
    assert status["shift"]["desired"] == {"generation": 1, "thresholdTokens": 16}
    assert status["decisions"][-1]["reason"] == "SignalsPartial"


def test_steady_metrics_write_nothing(place: Any, prometheus: Any, audit: Any, a_deployment: ADeployment) -> None:
    place.apply(a_deployment(shift={"mode": "Auto", "thresholdTokens": 16}))
    place.eventually(place.has("ConfigurationApplied", "True"))
    prometheus.tell(series(place.namespace, crossover=257))
    place.eventually(lambda: place.get("sd", "chat")["status"]["decisions"][-1]["reason"] == "BestAlready")
    place.eventually(place.has("ConfigurationApplied", "True"))
    time.sleep(2)
    audit.mark()
    time.sleep(6)
    assert [write for write in audit.writes() if f" {place.namespace}/" in write] == []
