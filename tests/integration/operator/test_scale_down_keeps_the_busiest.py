"""Fewer replicas: those go that have the least to finish, by what their engines say at that moment."""

import urllib.request
from collections.abc import Callable
from typing import Any

COST = "controller.kubernetes.io/pod-deletion-cost"


def give_requests(pod: dict[str, Any], count: int) -> None:
    url = f"http://{pod['status']['podIP']}:8000/requests/{count}"
    urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=60).close()


def test_the_busiest_of_three_stays(place: Any, a_deployment: Callable[..., dict[str, Any]], audit: Any) -> None:
    place.apply(a_deployment(replicas=3))
    place.eventually(lambda: place.condition("ConfigurationApplied").get("message") == "3 of 3 pods run generation 1")
    pods = place.pods()
    for pod, count in zip(pods, (5, 40, 0), strict=True):
        give_requests(pod, count)
    assert not any(COST in pod["metadata"]["annotations"] for pod in pods), "nothing is asked before replicas go down"

    audit.mark()
    place.kubectl("scale", "sd", "chat", "--replicas=1")
    place.eventually(lambda: len(place.pods()) == 1)
    (left,) = place.pods()
    assert left["metadata"]["name"] == pods[1]["metadata"]["name"]
    assert left["metadata"]["annotations"][COST] == "40"
    ours = [write for write in audit.writes() if f" {place.namespace}/" in write]
    workload = f"patch deployments {place.namespace}/chat"
    assert [write.split("/")[0] for write in ours[: ours.index(workload)]] == [f"patch pods {place.namespace}"] * 3
