"""suspend: every replica goes, everything else stays, and afterwards it is as before, whoever writes the replicas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

ADeployment = Callable[..., dict[str, Any]]
# Without metrics it brings the replicas to its minimum and nothing else.
AUTOSCALER: dict[str, Any] = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "chat"},
    "spec": {
        "scaleTargetRef": {"apiVersion": "shiftparallel.io/v1alpha1", "kind": "ShiftDeployment", "name": "chat"},
        "minReplicas": 2,
        "maxReplicas": 3,
    },
}


def children(place: Any) -> dict[str, str]:
    """The content of what must stay, by kind: specs and data, without what the cluster writes itself."""
    return {
        kind: place.kubectl("get", kind, name, "--output", "jsonpath={.metadata.uid} {.spec} {.data}")
        for kind, name in (("service", "chat"), ("configmap", "chat-schedule"), ("poddisruptionbudget", "chat"))
    }


def test_with_an_autoscaler_it_comes_back_with_what_that_asked_for(place: Any, a_deployment: ADeployment) -> None:
    def serve(count: int) -> bool:
        status = place.get("sd", "chat").get("status", {})
        return len(place.pods()) == count and status.get("readyReplicas") == count

    def suspend(text: str) -> None:
        place.kubectl("patch", "sd", "chat", "--type=merge", "-p", f'{{"spec": {{"suspend": {text}}}}}')

    place.apply(a_deployment(scaling={"mode": "External"}))
    place.eventually(lambda: serve(1))
    place.apply(AUTOSCALER)
    place.eventually(lambda: serve(2))
    place.eventually(place.has("ConfigurationApplied", "True"))
    before, revision = children(place), place.get("sd", "chat")["status"]["goodRevision"]

    suspend("true")
    place.eventually(lambda: place.kubectl("get", "pods", "--output", "name") == "")
    place.eventually(place.has("Available", "False", "Suspended"))
    assert place.get("sd", "chat")["spec"]["replicas"] == 2
    assert children(place) == before

    # An edit meanwhile is one for later.
    place.kubectl("patch", "sd", "chat", "--type=merge", "-p", '{"spec": {"shift": {"thresholdTokens": 128}}}')
    suspend("false")
    place.eventually(lambda: serve(2))
    place.eventually(place.has("ConfigurationApplied", "True"))
    status = place.get("sd", "chat")["status"]
    assert status["shift"]["applied"]["thresholdTokens"] == 128
    assert status["goodRevision"] == revision, "no other pods came back"
