"""scaling.mode Managed: the switch to it moves nothing, the spec's number no longer counts, the bounds do."""

from collections.abc import Callable
from typing import Any

MANAGED = {"mode": "Managed", "maxReplicas": 3}
SLO = {"ttft": {"milliseconds": 800}}


def test_the_switch_keeps_what_runs_and_suspending_brings_it_back(
    place: Any, a_deployment: Callable[..., dict[str, Any]]
) -> None:
    def replicas() -> int:
        return int(place.get("deployment", "chat")["spec"]["replicas"])

    def reconciled() -> bool:
        found = place.get("sd", "chat")
        return bool(found["status"]["observedGeneration"] == found["metadata"]["generation"])

    # No node has these GPUs: how many pods are asked for is all that matters here.
    nowhere = {"resourceName": "example.com/none"}
    place.apply(a_deployment(replicas=2, scheduling=nowhere))
    place.eventually(lambda: place.find("deployment", "chat") and replicas() == 2)

    place.apply(a_deployment(replicas=1, scheduling=nowhere, scaling=MANAGED, slo=SLO))
    place.eventually(lambda: place.get("sd", "chat")["status"].get("desiredReplicas") == 2)
    place.kubectl("scale", "sd/chat", "--replicas=3")
    place.eventually(reconciled)
    assert replicas() == 2

    place.kubectl("scale", "deployment/chat", "--replicas=3")
    place.eventually(lambda: replicas() == 2)

    place.kubectl("patch", "sd", "chat", "--type=merge", "-p", '{"spec": {"suspend": true}}')
    place.eventually(lambda: replicas() == 0)
    assert place.get("sd", "chat")["status"]["desiredReplicas"] == 2
    place.kubectl("patch", "sd", "chat", "--type=merge", "-p", '{"spec": {"suspend": false}}')
    place.eventually(lambda: replicas() == 2)

    place.apply(a_deployment(scheduling=nowhere, scaling=MANAGED | {"maxReplicas": 1}, slo=SLO))
    place.eventually(lambda: replicas() == 1)
