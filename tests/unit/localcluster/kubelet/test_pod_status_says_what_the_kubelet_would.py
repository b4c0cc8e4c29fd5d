"""Conditions, transition times, container statuses, and what a restarted kubelet takes over from them."""

from __future__ import annotations

from typing import Any

from localcluster.kubelet.lifecycle import Phase
from localcluster.kubelet.state import ContainerRecord, Running, Terminated, Waiting, records_of
from localcluster.kubelet.status import PodFacts, container_status, pod_status, recover

FACTS = PodFacts("127.10.0.1", "127.0.0.1", 1000.0, sandbox_ready=True)


def a_pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"generation": 1}, "spec": {"containers": [{"name": "web", "image": "i"}], **spec}}


def running(pod: dict[str, Any], *, ready: bool) -> list[ContainerRecord]:
    records = records_of(pod)
    for record in records:
        record.state, record.started, record.ready = Running(1001), True, ready
    return records


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(dict(one) for one in status["conditions"] if one["type"] == kind)


def test_a_ready_pod() -> None:
    pod = a_pod()
    status = pod_status(pod, running(pod, ready=True), FACTS, now=1002)
    assert status["phase"] == "Running"
    assert status["podIP"] == "127.10.0.1"
    assert {one["type"]: one["status"] for one in status["conditions"]} == {
        "PodReadyToStartContainers": "True",
        "Initialized": "True",
        "ContainersReady": "True",
        "Ready": "True",
    }


def test_an_unready_container_is_named() -> None:
    pod = a_pod()
    ready = condition(pod_status(pod, running(pod, ready=False), FACTS, now=1002), "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ContainersNotReady")
    assert ready["message"] == "containers with unready status: [web]"


def test_a_transition_time_moves_only_with_the_status() -> None:
    pod = a_pod()
    first = pod_status(pod, running(pod, ready=False), FACTS, now=1002)
    pod["status"] = first
    second = pod_status(pod, running(pod, ready=True), FACTS, now=2000)
    assert condition(second, "Ready")["lastTransitionTime"] == "1970-01-01T00:33:20Z"
    assert condition(second, "Initialized")["lastTransitionTime"] == "1970-01-01T00:16:42Z"


def test_readiness_gates_hold_ready_back() -> None:
    pod = a_pod(readinessGates=[{"conditionType": "example.com/warm"}])
    records = running(pod, ready=True)
    assert condition(pod_status(pod, records, FACTS, now=1), "Ready")["reason"] == "ReadinessGatesNotReady"
    pod["status"] = {"conditions": [{"type": "example.com/warm", "status": "True", "lastTransitionTime": "x"}]}
    status = pod_status(pod, records, FACTS, now=1)
    assert condition(status, "Ready")["status"] == "True"
    assert "example.com/warm" not in {one["type"] for one in status["conditions"]}


def test_a_pod_whose_end_is_decided_is_not_ready() -> None:
    pod = a_pod(restartPolicy="Never")
    records = records_of(pod)
    records[0].state = Terminated(0, "Completed", "", 1001, 1002)
    facts = PodFacts("127.10.0.1", "127.0.0.1", 1000.0, sandbox_ready=True, phase=Phase.SUCCEEDED)
    status = pod_status(pod, records, facts, now=1003)
    assert status["phase"] == "Succeeded"
    assert condition(status, "Ready")["reason"] == "PodCompleted"


def test_a_container_in_back_off_shows_how_it_ended() -> None:
    record = records_of(a_pod())[0]
    record.state, record.restarts = Waiting("CrashLoopBackOff", "back-off 10s"), 2
    record.last = Terminated(137, "Error", "last words", 1001, 1002, "process://x", signal=9)
    status = container_status(record)
    assert status["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    assert status["lastState"]["terminated"]["exitCode"] == 137
    assert status["lastState"]["terminated"]["message"] == "last words"
    assert status["restartCount"] == 2


def test_a_restarted_kubelet_counts_what_ran_as_lost() -> None:
    pod = a_pod()
    before = running(pod, ready=True)
    before[0].restarts = 3
    records = records_of(pod)
    recover(records, pod_status(pod, before, FACTS, now=1002), now=2000)
    assert records[0].restarts == 3
    assert isinstance(records[0].state, Terminated)
    assert (records[0].state.exit_code, records[0].state.reason) == (137, "ContainerStatusUnknown")


def test_a_restarted_kubelet_runs_init_containers_again() -> None:
    pod = a_pod(initContainers=[{"name": "init", "image": "i"}])
    before = records_of(pod)
    before[0].state = Terminated(0, "Completed", "", 1001, 1002)
    records = records_of(pod)
    recover(records, pod_status(pod, before, FACTS, now=1002), now=2000)
    assert records[0].ended is None
    assert records[0].restarts == 1
