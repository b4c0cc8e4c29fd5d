"""Engines, nodes and images that fail: the status says so in the words of those who know."""

import json
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


def test_a_replica_larger_than_every_node_is_not_asked_for(place: Any, a_deployment: ADeployment) -> None:
    place.apply(a_deployment(parallelism={"gpusPerReplica": 64, "degree": {"sequence": 64, "tensor": 1}}))
    place.eventually(place.has("CapacityAvailable", "False", "NoNodeLargeEnough"))
    assert place.condition("CapacityAvailable")["message"].startswith(
        "a replica asks for 64 nvidia.com/gpu, the largest node that it may run on has 8; over 8 nodes it needs "
        "LeaderWorkerSet (leaderworkerset.x-k8s.io), which the cluster lacks"
    )
    place.eventually(place.has("Progressing", "True", "WaitingForNode"))
    assert place.get("deployment", "chat")["spec"]["replicas"] == 0
    assert place.pods() == []


def test_a_node_that_refuses_its_pods_is_named_in_its_kubelets_words(place: Any, a_deployment: ADeployment) -> None:
    """As while a device plugin restarts: the scheduler counts GPUs that the kubelet does not have."""

    def report(gpus: int) -> None:
        status = {"status": {key: {"nvidia.com/gpu": str(gpus)} for key in ("capacity", "allocatable")}}
        arguments = ("--subresource=status", "--type=merge", "--patch", json.dumps(status))
        place.kubectl("patch", "node", "node-0", *arguments)

    all_gpus = {"gpusPerReplica": 8, "degree": {"sequence": 8, "tensor": 1}}
    place.apply(a_deployment(parallelism=all_gpus) | {"metadata": {"name": "other"}})
    place.eventually(lambda: place.condition("Available", "other").get("status") == "True")
    report(10)
    try:
        place.apply(a_deployment())
        place.eventually(place.has("Degraded", "True", "PodFailed"))
    finally:
        report(8)
    message = place.condition("Degraded")["message"]
    assert "UnexpectedAdmissionError on node node-0: " in message
    assert "Requested: 2, Available: 0" in message
    assert place.condition("Available")["status"] == "False"
    place.eventually(lambda: any("UnexpectedAdmissionError" in note for note in place.notes("PodFailed")))
    place.kubectl("delete", "sd", "other")
    place.eventually(place.has("Available", "True"))
    place.eventually(place.has("Degraded", "False", "AsExpected"))


def test_gpus_that_stay_away_are_released_and_asked_for_again(place: Any, a_deployment: ADeployment) -> None:
    """The node has 8 GPUs, unless another test's pods still end: a later try then finds what they had."""
    other = a_deployment(replicas=1)
    place.apply(other | {"metadata": {"name": "other"}})
    place.eventually(lambda: place.condition("Available", "other").get("status") == "True")

    place.apply(a_deployment(replicas=4, rollout={"capacityDeadlineSeconds": 2}))
    place.eventually(
        lambda: (
            place.condition("CapacityAvailable").get("reason") == "Released"
            and place.condition("CapacityAvailable")["message"].startswith(
                "3 of 4 replicas have a node; 2 nvidia.com/gpu for the other 1 were asked"
            )
        ),
    )
    assert "Insufficient nvidia.com/gpu" in place.condition("CapacityAvailable")["message"]
    place.eventually(lambda: place.get("deployment", "chat")["spec"]["replicas"] == 3)
    assert place.get("sd", "chat")["spec"]["replicas"] == 4
    place.eventually(lambda: place.get("sd", "chat")["status"].get("release", {}).get("tries", 0) >= 2)

    place.kubectl("delete", "sd", "other")
    place.eventually(place.has("CapacityAvailable", "True", "Scheduled"))
    place.eventually(place.has("Progressing", "True", "RolloutComplete"))
    assert "release" not in place.get("sd", "chat")["status"]


def test_gpus_that_come_free_are_asked_for_before_the_pause_is_over(
    place: Any, operator: Any, a_deployment: ADeployment
) -> None:
    place.apply(a_deployment(replicas=1) | {"metadata": {"name": "other"}})
    place.eventually(lambda: place.condition("Available", "other").get("status") == "True")
    place.apply(a_deployment(replicas=4, rollout={"capacityDeadlineSeconds": 20}))
    place.eventually(place.has("CapacityAvailable", "False", "Released"))
    (note,) = place.notes("Released")
    assert note.startswith("replicas that found no node in time are not asked for until the next try, or until GPUs ")
    place.eventually(lambda: len(place.pods()) == 4)  # of both deployments

    place.kubectl("delete", "sd", "other")
    place.eventually(place.has("CapacityAvailable", "True", "Scheduled"))
    said = [line["message"] for line in operator.lines() if line.get("key") == f"{place.namespace}/chat"]
    assert said.count("replicas asked for again, there is room") == 1
    assert said.count("replicas released") == 1


def test_while_prometheus_cannot_answer_the_threshold_stays(place: Any, a_deployment: ADeployment) -> None:
    place.apply(a_deployment(shift={"mode": "Auto", "thresholdTokens": 300}))
    place.eventually(place.has("ConfigurationApplied", "True"))
    place.eventually(place.has("MetricsAvailable", "Unknown", "PrometheusUnreachable"))
    assert "answered 503: still replaying the WAL" in place.condition("MetricsAvailable")["message"]
    assert place.get("sd", "chat")["status"]["shift"]["applied"]["thresholdTokens"] == 300
