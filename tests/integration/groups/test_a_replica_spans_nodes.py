"""Replicas larger than any node, by the real LeaderWorkerSet controller: from the kind's absence to the last pod's end.

The first test runs before the kind is there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.difference import differences
from shift_operator.planning.workload import workload

from tests.integration.crd.conftest import GOOD, UNSERVED, changed
from tests.integration.crd.test_applied_children_show_no_difference import EVERYTHING

ADeployment = Callable[..., dict[str, Any]]
LWS = "leaderworkersets.leaderworkerset.x-k8s.io"


def by_node(place: Any) -> dict[str, str]:
    return {pod["metadata"]["name"]: pod["spec"].get("nodeName", "") for pod in place.pods()}


def images(place: Any) -> set[str]:
    return {pod["spec"]["containers"][0]["args"][3] for pod in place.pods()}


def test_without_the_kind_the_condition_names_it_and_with_it_the_replica_comes(
    place: Any, a_deployment: ADeployment, request: pytest.FixtureRequest
) -> None:
    place.apply(a_deployment())
    place.eventually(place.has("CapacityAvailable", "False", "NoNodeLargeEnough"))
    assert place.condition("CapacityAvailable")["message"].startswith(
        "a replica asks for 4 nvidia.com/gpu, the largest node that it may run on has 2; over 2 nodes it needs "
        "LeaderWorkerSet (leaderworkerset.x-k8s.io), which the cluster lacks"
    )
    assert place.pods() == []
    request.getfixturevalue("leader_worker_sets")
    place.eventually(place.has("Available", "True"))
    assert place.find("deployment", "chat") is None, "never both"
    place.eventually(place.has("Progressing", "True", "RolloutComplete"))
    assert place.condition("CapacityAvailable")["reason"] == "Scheduled"
    nodes = by_node(place)
    assert sorted(nodes) == ["chat-0", "chat-0-1"]
    assert len(set(nodes.values())) == 2


@pytest.mark.usefixtures("leader_worker_sets")
def test_the_life_of_a_replica_over_nodes(place: Any, a_deployment: ADeployment, audit: Any) -> None:
    place.apply(a_deployment())
    place.eventually(place.has("Progressing", "True", "RolloutComplete"))
    status = place.get("sd", "chat")["status"]
    assert (status["ready"], status["readyReplicas"], status["shift"]["applied"]["ranks"]) == ("1/1", 1, 4)
    place.eventually(place.has("ConfigurationApplied", "True", "Confirmed"))

    audit.mark()
    time.sleep(3)
    assert [write for write in audit.writes() if f" {place.namespace}/" in write] == [], "at rest nothing is written"

    # Drift is repaired, and said.
    patch = json.dumps({"spec": {"leaderWorkerTemplate": {"restartPolicy": "None"}}})
    place.kubectl("patch", LWS, "chat", "--type=merge", "-p", patch, "--field-manager=a-colleague")
    place.eventually(
        lambda: place.get(LWS, "chat")["spec"]["leaderWorkerTemplate"]["restartPolicy"] == "RecreateGroupOnPodRestart",
    )
    place.eventually(lambda: any("a-colleague" in note for note in place.notes("ChildRepaired")))

    place.kubectl("scale", "sd", "chat", "--replicas=2")
    place.eventually(lambda: place.get("sd", "chat")["status"].get("ready") == "2/2")
    assert sorted(by_node(place)) == ["chat-0", "chat-0-1", "chat-1", "chat-1-1"]
    place.eventually(place.has("Progressing", "True", "RolloutComplete"))

    # An edit that makes other pods replaces all of them; the GPUs leave no room for a third replica beside.
    place.kubectl("patch", "sd", "chat", "--type=merge", "-p", json.dumps({"spec": {"model": {"name": "second"}}}))
    place.eventually(lambda: images(place) == {"second"} and len(place.pods()) == 4)
    place.eventually(place.has("Progressing", "True", "RolloutComplete"))
    place.eventually(place.has("ConfigurationApplied", "True", "Confirmed"))

    place.kubectl("patch", "sd", "chat", "--type=merge", "-p", json.dumps({"spec": {"suspend": True}}))
    place.eventually(lambda: place.pods() == [])
    place.eventually(place.has("Available", "False", "Suspended"))
    place.kubectl("patch", "sd", "chat", "--type=merge", "-p", json.dumps({"spec": {"suspend": False}}))
    place.eventually(lambda: place.get("sd", "chat")["status"].get("ready") == "2/2")

    place.kubectl("delete", "sd", "chat")
    place.eventually(lambda: place.kubectl("get", f"{LWS},statefulsets,pods,services", "--output=name") == "")


@pytest.mark.usefixtures("leader_worker_sets")
def test_a_replica_of_one_pod_stays_one_while_it_runs_and_moves_when_it_is_suspended(
    place: Any, a_deployment: ADeployment
) -> None:
    """The node that has room for all GPUs comes after the replica spans two; then the replica is to move."""
    place.apply(a_deployment())
    place.eventually(place.has("Progressing", "True", "RolloutComplete"))
    body = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "large"},
        "spec": {"unschedulable": True},
    }
    place.cluster.kubectl("create", "-f", "-", stdin=json.dumps(body))
    try:
        capacity = json.dumps({"status": {"capacity": {"nvidia.com/gpu": "4"}}})
        place.cluster.kubectl("patch", "node", "large", "--subresource=status", "--type=merge", "-p", capacity)
        place.eventually(lambda: "set spec.suspend to true" in place.condition("CapacityAvailable")["message"])
        assert place.find(LWS, "chat") is not None
        assert place.find("deployment", "chat") is None
        place.kubectl("patch", "sd", "chat", "--type=merge", "-p", json.dumps({"spec": {"suspend": True}}))
        place.eventually(lambda: place.find("deployment", "chat") and not place.find(LWS, "chat"))
    finally:
        place.cluster.kubectl("delete", "node", "large")


@pytest.mark.usefixtures("leader_worker_sets")
@pytest.mark.parametrize("changes", [{}, EVERYTHING], ids=["minimal", "everything"])
def test_what_was_applied_is_as_wanted(place: Any, changes: dict[str, Any]) -> None:
    """As tests/integration/crd has it of the other children. The operator leaves this ShiftDeployment alone."""
    place.apply(
        {
            "apiVersion": "shiftparallel.io/v1alpha1",
            "kind": "ShiftDeployment",
            "metadata": {"name": "chat", "labels": UNSERVED},
            "spec": changed(GOOD, changes),
        }
    )
    wanted = workload(ShiftDeployment.from_body(place.get("sd", "chat")), 0, nodes=2)
    apply = ("apply", "--server-side", "--field-manager=shift-operator", "-f", "-")
    place.kubectl(*apply, stdin=json.dumps(wanted.body))
    live = json.loads(place.kubectl("get", LWS, "chat", "--output=json", "--show-managed-fields"))
    assert [str(difference) for difference in differences(wanted, live)] == []
