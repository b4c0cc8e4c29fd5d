"""A pod's status from its records: phase, conditions with their transition times, container statuses. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from localcluster.kubelet.lifecycle import Phase, phase_of, uninitialized
from localcluster.kubelet.objects import Json, seconds_of, stamp
from localcluster.kubelet.state import ContainerRecord, Role, Running, State, Terminated, Waiting


@dataclass(frozen=True)
class PodFacts:
    """What the worker knows beside the containers. `phase`, `reason`, `message` are set once the end is decided."""

    pod_ip: str
    host_ip: str
    start_time: float
    sandbox_ready: bool
    phase: Phase | None = None
    reason: str = ""
    message: str = ""


def pod_status(pod: Json, records: Sequence[ContainerRecord], facts: PodFacts, now: float) -> Json:
    """The status that the kubelet owns, as a strategic merge patch expects it; foreign conditions stay out of it."""
    policy = pod["spec"].get("restartPolicy", "Always")
    phase = facts.phase or phase_of(records, policy)
    status: Json = {
        "observedGeneration": pod["metadata"].get("generation", 0),
        "phase": phase.value,
        "startTime": stamp(facts.start_time),
        "hostIP": facts.host_ip,
        "hostIPs": [{"ip": facts.host_ip}],
        "conditions": _conditions(pod, records, facts, phase, now),
        "containerStatuses": [container_status(record) for record in records if record.role is Role.MAIN],
    }
    if facts.sandbox_ready:
        status["podIP"] = facts.pod_ip
        # The patch merges this list by address: without the directive an earlier kubelet's would stay and be refused.
        status["podIPs"] = [{"ip": facts.pod_ip}, {"$patch": "replace"}]
    init = [container_status(record) for record in records if record.role is not Role.MAIN]
    if init:
        status["initContainerStatuses"] = init
    if facts.reason:
        status["reason"] = facts.reason
    if facts.message:
        status["message"] = facts.message
    return status


def rejected_status(reason: str, message: str, now: float) -> Json:
    """The status of a pod that the node refuses at admission."""
    return {
        "phase": Phase.FAILED.value,
        "reason": reason,
        "message": f"Pod was rejected: {message}",
        "startTime": stamp(now),
    }


def container_status(record: ContainerRecord) -> Json:
    status: Json = {
        "name": record.name,
        "image": record.spec["image"],
        "imageID": record.spec["image"] if record.container_id else "",
        "restartCount": record.restarts,
        "ready": record.ready,
        "started": record.started,
        "state": _state(record.state),
        "lastState": _state(record.last) if record.last else {},
    }
    if record.container_id:
        status["containerID"] = record.container_id
    return status


def _state(state: State) -> Json:
    if isinstance(state, Waiting):
        return {"waiting": {"reason": state.reason} | ({"message": state.message} if state.message else {})}
    if isinstance(state, Running):
        return {"running": {"startedAt": stamp(state.started_at)}}
    terminated: Json = {
        "exitCode": state.exit_code,
        "reason": state.reason,
        "startedAt": stamp(state.started_at),
        "finishedAt": stamp(state.finished_at),
        "containerID": state.container_id,
    }
    if state.signal is not None:
        terminated["signal"] = state.signal
    if state.message:
        terminated["message"] = state.message
    return {"terminated": terminated}


def _conditions(pod: Json, records: Sequence[ContainerRecord], facts: PodFacts, phase: Phase, now: float) -> list[Json]:
    waiting = uninitialized(records)
    unready = [record.name for record in records if record.role is not Role.INIT and not record.ready]
    over = {Phase.SUCCEEDED: "PodCompleted", Phase.FAILED: "PodFailed"}.get(phase)
    initialized = _condition("Initialized", not waiting)
    if waiting:
        initialized = _condition(
            "Initialized",
            False,
            "ContainersNotInitialized",
            f"containers with incomplete status: [{' '.join(waiting)}]",
        )
    elif phase is Phase.SUCCEEDED:
        initialized["reason"] = "PodCompleted"
    if over:
        containers_ready = _condition("ContainersReady", False, over)
    elif unready or waiting:
        containers_ready = _condition(
            "ContainersReady", False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
        )
    else:
        containers_ready = _condition("ContainersReady", True)
    conditions = [
        _condition("PodReadyToStartContainers", facts.sandbox_ready and not over),
        initialized,
        containers_ready,
        _ready(pod, containers_ready),
    ]
    before = {condition["type"]: condition for condition in pod.get("status", {}).get("conditions", [])}
    for condition in conditions:
        old = before.get(condition["type"])
        same = old is not None and old["status"] == condition["status"]
        condition["lastTransitionTime"] = old["lastTransitionTime"] if same and old else stamp(now)
    return conditions


def _ready(pod: Json, containers_ready: Json) -> Json:
    """Ready is ContainersReady and every readiness gate's condition, which others write."""
    if containers_ready["status"] != "True":
        return {**containers_ready, "type": "Ready"}
    conditions = {condition["type"]: condition["status"] for condition in pod.get("status", {}).get("conditions", [])}
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates", [])]
    absent = [gate for gate in gates if gate not in conditions]
    closed = [gate for gate in gates if gate in conditions and conditions[gate] != "True"]
    if absent or closed:
        messages = [f'corresponding condition of pod readiness gate "{gate}" does not exist.' for gate in absent]
        messages += [
            f'the status of pod readiness gate "{gate}" is not "True", but {conditions[gate]}' for gate in closed
        ]
        return _condition("Ready", False, "ReadinessGatesNotReady", ", ".join(messages))
    return _condition("Ready", True)


def _condition(kind: str, holds: bool, reason: str | None = None, message: str | None = None) -> Json:
    return {"type": kind, "status": str(holds), "lastProbeTime": None, "reason": reason, "message": message}


def recover(records: Sequence[ContainerRecord], status: Json, now: float) -> None:
    """Take over what an earlier kubelet reported. Its processes died with it: what ran has ended, with unknown status.

    Init containers run again, since the pod starts anew; restart counts go on.
    """
    reported = {
        one["name"]: one for one in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    }
    for record in records:
        before = reported.get(record.name)
        if before is None:
            continue
        record.restarts = before["restartCount"]
        record.last = _terminated(before.get("lastState", {}))
        ended = _terminated(before["state"])
        if running := before["state"].get("running"):
            message = "The container could not be located: the kubelet was restarted"
            began = seconds_of(running["startedAt"]) if running.get("startedAt") else now
            ended = Terminated(137, "ContainerStatusUnknown", message, began, now, before.get("containerID", ""))
        if record.role is Role.MAIN and ended:
            record.state = ended
        elif ended:
            record.last = ended if record.role is Role.SIDECAR else None
            record.restarts += 1


def _terminated(state: Json) -> Terminated | None:
    ended = state.get("terminated")
    if ended is None:
        return None
    return Terminated(
        exit_code=ended["exitCode"],
        reason=ended.get("reason", ""),
        message=ended.get("message", ""),
        started_at=seconds_of(ended["startedAt"]) if ended.get("startedAt") else 0.0,
        finished_at=seconds_of(ended["finishedAt"]) if ended.get("finishedAt") else 0.0,
        container_id=ended.get("containerID", ""),
        signal=ended.get("signal"),
    )
