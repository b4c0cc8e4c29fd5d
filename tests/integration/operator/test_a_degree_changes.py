"""Another degree: a schedule where the engines hold it, and a rollout where they cannot get it while they serve."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.integration.operator.test_replicas_follow_the_traffic import traffic

ADeployment = Callable[..., dict[str, Any]]
APolicy = Callable[..., str]
SP4, MIXED = {"sequence": 4, "tensor": 1}, {"sequence": 2, "tensor": 2}
PARALLELISM = {"gpusPerReplica": 4, "degree": SP4, "degreeCandidates": [SP4, MIXED]}


def pod_uids(place: Any) -> set[str]:
    return {pod["metadata"]["uid"] for pod in place.pods()}


def runs(place: Any, degree: str) -> bool:
    """The status shows the degree, every pod confirmed the schedule with it, and no rollout is left."""
    status = place.get("sd", "chat").get("status", {})
    return (
        status.get("degree") == degree
        and place.has("ConfigurationApplied", "True")()
        and place.has("Progressing", "True", "RolloutComplete")()
    )


def edit_degree(place: Any, degree: dict[str, int]) -> None:
    patch = f'{{"spec":{{"parallelism":{{"degree":{{"sequence":{degree["sequence"]},"tensor":{degree["tensor"]}}}}}}}}}'
    place.kubectl("patch", "sd", "chat", "--type", "merge", "--patch", patch)


def test_an_edit_among_the_candidates_is_live_where_the_engines_hold_them(
    place: Any, a_deployment: ADeployment, a_policy: APolicy
) -> None:
    a_policy(behavior={"degree": {"mode": "Disabled"}})
    place.apply(a_deployment(parallelism=PARALLELISM))
    place.eventually(lambda: runs(place, "4x1"))
    before = pod_uids(place)
    edit_degree(place, MIXED)
    place.eventually(lambda: runs(place, "2x2"))
    schedule = place.get("sd", "chat")["status"]["schedule"]
    assert schedule["ranges"][-1] == MIXED
    assert schedule["generation"] == 2
    assert pod_uids(place) == before, "no pod was replaced"


def test_where_an_engine_lacks_the_memory_it_is_a_rollout(
    place: Any, a_deployment: ADeployment, a_policy: APolicy
) -> None:
    """The new pods are started with the degree first, which takes no memory of its own."""
    a_policy(behavior={"degree": {"mode": "Disabled"}})
    model = {"uri": "file:///models/tiny", "name": "big"}
    place.apply(a_deployment(parallelism=PARALLELISM, model=model))
    place.eventually(lambda: runs(place, "4x1"))
    before = pod_uids(place)
    edit_degree(place, MIXED)
    place.eventually(lambda: runs(place, "2x2"))
    assert not before & pod_uids(place)
    arguments = place.get("deployment", "chat")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[arguments.index("--shift-degree") + 1] == "2x2"


def test_in_a_rollout_the_old_replica_goes_on_with_its_own_degree(place: Any, a_deployment: ADeployment) -> None:
    """The new replica waits for GPUs meanwhile, as long as the test wants. The old engine has no other degree."""
    rollout = {"strategy": "Surge", "maxSurge": 1, "maxUnavailable": 0}
    parallelism = {"gpusPerReplica": 4, "degree": SP4}
    model = {"uri": "file:///models/tiny", "name": "big"}
    other = a_deployment(parallelism=parallelism)
    other["metadata"]["name"] = "other"
    place.apply(other)
    place.apply(a_deployment(parallelism=parallelism, model=model, rollout=rollout))
    place.eventually(lambda: runs(place, "4x1") and place.has("Available", "True"))
    before = pod_uids(place)

    edit_degree(place, MIXED)
    place.eventually(place.has("Progressing", "True", "WaitingForNode"))
    place.eventually(place.has("ConfigurationApplied", "True"))
    assert place.condition("ConfigurationApplied")["message"] == "1 of 1 pods run generation 2"
    files = place.get("configmap", "chat-schedule")["data"]
    assert {name: json.loads(text)["ranges"][-1] for name, text in files.items()} == {
        "schedule.json": SP4,
        "schedule-2x2.json": MIXED,
    }

    place.kubectl("delete", "sd", "other")
    place.eventually(lambda: runs(place, "2x2"))
    assert not before & pod_uids(place)
    place.eventually(lambda: list(place.get("configmap", "chat-schedule")["data"]) == ["schedule-2x2.json"])


def test_a_degree_that_stays_better_is_decided_and_taken_live(
    place: Any, prometheus: Any, a_deployment: ADeployment, a_policy: APolicy
) -> None:
    a_policy(behavior={"degree": {"holdSeconds": 60}, "replicas": {"mode": "Disabled"}})
    seen = [(labels, v) for labels, v in traffic(place.namespace, 10.0, pods=1) if labels["signal"] != "step_time"]
    own = {"namespace": place.namespace, "deployment": "chat", "signal": "step_time"}
    for sequence, milliseconds in ((1, 10.0), (4, 30.0), (2, 20.0)):
        degree = {"sequence": str(sequence), "tensor": str(4 // sequence)}
        seen += [(own | degree | {"tokens": str(tokens)}, milliseconds / 1000) for tokens in (1, 2048)]
    prometheus.tell(seen)
    place.apply(a_deployment(parallelism=PARALLELISM))
    place.eventually(lambda: runs(place, "4x1"))
    before = pod_uids(place)
    place.eventually(lambda: "GainTooYoung" in [d["reason"] for d in place.decisions("Degree")])
    place.eventually(lambda: runs(place, "2x2"))
    place.eventually(lambda: "Applied" in [d["outcome"] for d in place.decisions("Degree")])
    (change,) = [d for d in place.decisions("Degree") if d["from"] != d["to"]]
    assert (change["from"], change["to"], change["reason"]) == ("4x1", "2x2", "LessStepTime")
    assert "takes effect live" in change["message"]
    assert place.notes("DegreeChanged")[0].startswith("degree 4x1 -> 2x2: LessStepTime (")
    assert pod_uids(place) == before, "no pod was replaced"
    assert place.get("sd", "chat")["spec"]["parallelism"]["degree"] == SP4, "the user's degree is the user's"
