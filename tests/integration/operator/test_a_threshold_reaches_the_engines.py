"""From `spec.shift` to every rank of every pod, without a restart."""

import json
import urllib.request
from collections.abc import Callable
from typing import Any

ADeployment = Callable[..., dict[str, Any]]


def test_a_new_threshold_arrives_without_a_restart(place: Any, a_deployment: ADeployment) -> None:
    place.apply(a_deployment(replicas=2))
    place.eventually(place.has("ConfigurationApplied", "True"))
    before = {pod["metadata"]["uid"] for pod in place.pods()}

    place.apply(a_deployment(replicas=2, shift={"mode": "Fixed", "thresholdTokens": 768}))
    place.eventually(lambda: place.get("sd", "chat")["status"]["shift"].get("applied", {}).get("generation") == 2)
    place.eventually(lambda: place.condition("ConfigurationApplied")["message"] == "2 of 2 pods run generation 2")

    schedule = json.loads(place.get("configmap", "chat-schedule")["data"]["schedule.json"])
    assert schedule["generation"] == 2
    assert schedule["ranges"][0]["upToTokens"] == 768
    annotation = "shiftparallel.io/schedule-generation"
    assert [pod["metadata"]["annotations"][annotation] for pod in place.pods()] == ["2", "2"]
    assert {pod["metadata"]["uid"] for pod in place.pods()} == before
    applied = place.get("sd", "chat")["status"]["shift"]["applied"]
    assert applied == {"generation": 2, "thresholdTokens": 768, "pods": 2, "ranks": 4}


def test_a_deleted_schedule_comes_back_with_its_generation(place: Any, a_deployment: ADeployment) -> None:
    place.apply(a_deployment(replicas=0))
    place.eventually(place.has("Progressing", "True", "RolloutComplete"))
    place.apply(a_deployment(replicas=0, shift={"mode": "Fixed", "thresholdTokens": 768}))
    place.eventually(lambda: place.get("sd", "chat")["status"]["shift"]["desired"]["generation"] == 2)
    before = place.get("configmap", "chat-schedule")
    place.kubectl("delete", "configmap", "chat-schedule")
    place.eventually(lambda: place.find("configmap", "chat-schedule"))
    assert place.get("configmap", "chat-schedule")["data"] == before["data"]


def test_generations_go_on_from_an_engine_that_is_ahead(place: Any, a_deployment: ADeployment) -> None:
    """As after a backup was restored: the engine runs a generation that no record of ours has."""
    place.apply(a_deployment())
    place.eventually(place.has("ConfigurationApplied", "True"))
    [pod] = place.pods()
    request = urllib.request.Request(f"http://{pod['status']['podIP']}:8000/generation/9", method="POST")
    urllib.request.urlopen(request, timeout=60).close()

    place.apply(a_deployment(shift={"mode": "Fixed", "thresholdTokens": 768}))
    place.eventually(lambda: place.condition("ConfigurationApplied")["message"] == "1 of 1 pods run generation 10")
    shift = place.get("sd", "chat")["status"]["shift"]
    assert shift["desired"] == {"generation": 10, "thresholdTokens": 768}
    assert shift["applied"]["thresholdTokens"] == 768
