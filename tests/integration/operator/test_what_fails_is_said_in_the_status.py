"""Engines, nodes and images that fail: the status says so in the words of those who know."""

from collections.abc import Callable
from typing import Any

ADeployment = Callable[..., dict[str, Any]]


def test_an_engine_that_cannot_start_degrades_with_its_own_words(place: Any, a_deployment: ADeployment) -> None:
    place.apply(a_deployment(model={"uri": "file:///models/tiny", "name": "broken"}))
    place.eventually(place.has("Degraded", "True", "EngineFailed"))
    assert "cannot load model /models/tiny: no such architecture" in place.condition("Degraded")["message"]
    place.eventually(lambda: any("no such architecture" in note for note in place.notes("EngineFailed")))
    assert place.condition("Available")["status"] == "False"

    place.apply(a_deployment())
    place.eventually(place.has("Degraded", "False", "AsExpected"))
    place.eventually(place.has("Available", "True"))


def test_an_image_that_does_not_exist_degrades(place: Any, a_deployment: ADeployment) -> None:
    place.apply(a_deployment(engine={"image": "example.com/nowhere:1"}))
    place.eventually(place.has("Degraded", "True", "ImageUnavailable"))
    assert "example.com/nowhere:1" in place.condition("Degraded")["message"]


def test_gpus_that_are_not_there_are_waited_for_in_the_schedulers_words(place: Any, a_deployment: ADeployment) -> None:
    place.apply(a_deployment(parallelism={"gpusPerReplica": 64, "degree": {"sequence": 64, "tensor": 1}}))
    place.eventually(place.has("Progressing", "True", "WaitingForNode"))
    assert "Insufficient nvidia.com/gpu" in place.condition("Progressing")["message"]


def test_while_prometheus_cannot_answer_the_threshold_stays(place: Any, a_deployment: ADeployment) -> None:
    place.apply(a_deployment(shift={"mode": "Auto", "thresholdTokens": 300}))
    place.eventually(place.has("ConfigurationApplied", "True"))
    place.eventually(place.has("MetricsAvailable", "Unknown", "PrometheusUnreachable"))
    assert "answered 503: still replaying the WAL" in place.condition("MetricsAvailable")["message"]
    assert place.get("sd", "chat")["status"]["shift"]["applied"]["thresholdTokens"] == 300
