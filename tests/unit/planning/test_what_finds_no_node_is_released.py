"""Replicas without a node are given up after the deadline and asked for again, ever less often; placed ones stay."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from shift_operator.api.conditions import CapacityReason
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.api.status import ShiftDeploymentStatus
from shift_operator.planning.asking import LONGEST_PAUSE, Ask, next_ask, seconds_to_next_ask
from shift_operator.planning.capacity import capacity_available
from shift_operator.planning.nodes import too_small

Build = Callable[..., ShiftDeployment]
T0 = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WORDS = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
DEADLINE = 60


def placed(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"nodeName": "node-0"}, "status": {"phase": "Running"}}


def unplaced(name: str, since: datetime) -> dict[str, Any]:
    condition = {
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": WORDS,
        "lastTransitionTime": since.isoformat(),
    }  # fmt: skip
    return {"metadata": {"name": name}, "spec": {}, "status": {"phase": "Pending", "conditions": [condition]}}


def workload(replicas: int, updated: int | None = None) -> dict[str, Any]:
    updated = replicas if updated is None else updated
    return {
        "metadata": {"generation": 1},
        "spec": {"replicas": replicas},
        "status": {"observedGeneration": 1, "replicas": replicas, "updatedReplicas": updated},
    }


def after(deployment: ShiftDeployment, ask: Ask) -> ShiftDeployment:
    """The deployment once this is in its status."""
    status = ShiftDeploymentStatus(release=ask.release)
    return deployment.model_copy(update={"status": ShiftDeploymentStatus.from_body(status.to_body())})


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def test_the_life_of_an_ask(a_deployment: Build) -> None:
    deployment = a_deployment(replicas=4)
    pods = [placed("a"), placed("b"), unplaced("c", T0), unplaced("d", at(5))]

    assert next_ask(deployment, 4, workload(4), pods, at(59)) == Ask(4)
    given_up = next_ask(deployment, 4, workload(4), pods, at(60))
    assert given_up.replicas == 2
    deployment = after(deployment, given_up)
    assert next_ask(deployment, 4, workload(4), pods, at(61)) == given_up, "its pods are not gone yet"
    assert next_ask(deployment, 4, workload(2), pods[:2], at(119)) == given_up
    assert seconds_to_next_ask(deployment, given_up, at(100)) == 20
    verdict = capacity_available(deployment, pods[:2], at(100), 4, given_up)
    assert verdict.reason is CapacityReason.RELEASED
    assert verdict.message == (
        "2 of 4 replicas have a node; 4 nvidia.com/gpu for the other 2 were asked once in vain and are asked for again "
        f"at 03:06:05 UTC; pod c: {WORDS}"
    )

    again = next_ask(deployment, 4, workload(2), pods[:2], at(120))
    assert again == Ask(4, given_up.release)
    assert again.retries(at(120))
    anew = [placed("a"), placed("b"), unplaced("e", at(121)), unplaced("f", at(121))]
    assert capacity_available(deployment, anew, at(125), 4, again).reason is CapacityReason.UNSCHEDULABLE
    assert seconds_to_next_ask(deployment, again, at(125)) == 55
    second = next_ask(deployment, 4, workload(4), anew, at(181))
    assert second.release is not None
    assert (second.replicas, second.release.tries) == (2, 2)
    assert second.release.retry_time == at(181 + 120)

    deployment = after(deployment, second)
    found = [placed(name) for name in "abgh"]
    assert next_ask(deployment, 4, workload(4), found, at(302)) == Ask(4)


def test_nothing_is_released_while_a_rollout_runs_or_a_pod_gives_its_gpus_back(a_deployment: Build) -> None:
    deployment, pods = a_deployment(replicas=2), [placed("a"), unplaced("b", T0)]
    assert next_ask(deployment, 2, workload(3, updated=1), pods, at(600)) == Ask(2)
    ending = {"metadata": {"name": "old", "deletionTimestamp": "2026-01-02T03:04:05Z"}, "spec": {"nodeName": "node-0"}}
    assert next_ask(deployment, 2, workload(2), [*pods, ending], at(600)) == Ask(2)
    assert next_ask(deployment, 2, None, pods, at(600)) == Ask(2)


def test_less_wanted_or_other_pods_are_asked_for_at_once(a_deployment: Build) -> None:
    deployment, pods = a_deployment(replicas=4), [placed("a"), unplaced("b", T0)]
    given_up = next_ask(deployment, 4, workload(2), pods, at(60))
    released = after(deployment, given_up)
    assert next_ask(released, 4, workload(1), pods[:1], at(61)).replicas == 1
    assert next_ask(released, 1, workload(1), pods[:1], at(61)) == Ask(1)
    elsewhere = after(a_deployment(replicas=4, scheduling={"nodeSelector": {"pool": "b"}}), given_up)
    assert next_ask(elsewhere, 4, workload(1), pods[:1], at(61)) == Ask(4)


def test_gpus_that_come_free_end_the_pause(a_deployment: Build) -> None:
    deployment = a_deployment(replicas=4, rollout={"capacityDeadlineSeconds": DEADLINE})
    pods = [*map(placed, "ab"), unplaced("c", T0)]
    released = after(deployment, next_ask(deployment, 4, workload(4), pods, at(60)))
    early = next_ask(released, 4, workload(2), pods[:2], at(61), freed=True)
    assert (early.replicas, early.release and early.release.tries) == (4, 1)
    again = after(released, early)
    anew = [*map(placed, "ab"), unplaced("c", at(61))]
    assert next_ask(again, 4, workload(4), anew, at(120)).replicas == 4, "the try lasts as long as any"
    second = next_ask(again, 4, workload(4), anew, at(121))
    assert (second.replicas, second.release and second.release.tries) == (2, 2)


@given(
    wanted=st.integers(0, 6),
    free=st.lists(st.integers(0, 6), min_size=1, max_size=8),
    deadline=st.integers(1, 300),
)
def test_it_never_takes_a_node_back_and_always_asks_again(
    a_deployment: Build, wanted: int, free: list[int], deadline: int
) -> None:
    """A cluster in which `free` replicas fit, each number for a while, the last one for good."""
    deployment = a_deployment(replicas=wanted, rollout={"capacityDeadlineSeconds": deadline})
    longest = max(LONGEST_PAUSE.total_seconds(), deadline)
    step, turns = deadline / 2, int((2 * longest + 4 * deadline) / (deadline / 2)) + 8
    running, since = 0, dict[int, datetime]()
    for turn in range(len(free) * 4 + turns):
        now, fits = at(turn * step), free[min(turn // 4, len(free) - 1)]
        waits = [unplaced(f"new-{number}", time) for number, time in since.items()]
        pods = [*(placed(f"pod-{number}") for number in range(running)), *waits]
        ask = next_ask(deployment, wanted, workload(len(pods)), pods, now)
        assert min(wanted, running) <= ask.replicas <= wanted
        deployment = after(deployment, ask)
        running = min(max(running, min(fits, ask.replicas)), ask.replicas)
        since = {number: since.get(number, now) for number in range(running, ask.replicas)}
    assert running == min(wanted, max(running, free[-1])), "what fits at the end runs at the end"


def test_a_replica_larger_than_every_node_is_not_asked_for(a_deployment: Build) -> None:
    deployment = a_deployment(replicas=3, parallelism={"gpusPerReplica": 16, "degree": {"sequence": 16, "tensor": 1}})
    pods = [placed("a"), unplaced("b", T0)]
    ask = next_ask(deployment, 3, workload(2), pods, T0, "too large")
    assert ask == Ask(1, obstacle="too large"), "one that runs, on a node that has gone since, stays"
    verdict = capacity_available(deployment, pods, T0, 3, ask)
    assert verdict.reason is CapacityReason.NO_NODE_LARGE_ENOUGH
    assert verdict.message == "too large"


def node(gpus: int, *, taint: str | None = None, **labels: str) -> dict[str, Any]:
    taints = [{"key": taint, "effect": "NoSchedule"}] if taint else []
    status = {"capacity": {"nvidia.com/gpu": str(gpus)}, "allocatable": {"nvidia.com/gpu": "0"}}
    return {"metadata": {"name": "n", "labels": labels}, "spec": {"taints": taints}, "status": status}


def test_only_nodes_that_a_replica_may_run_on_count_and_all_that_come_back(a_deployment: Build) -> None:
    deployment = a_deployment(
        parallelism={"gpusPerReplica": 8, "degree": {"sequence": 8, "tensor": 1}},
        scheduling={"nodeSelector": {"pool": "a"}},
    )
    assert too_small(deployment, []) is None, "unknown: one may come"
    assert too_small(deployment, [node(8)]) is None, "of that pool none is known"
    assert too_small(deployment, [node(4, pool="a"), node(8), node(8, pool="a", taint="other")]) == 4
    cordoned = node(8, pool="a", taint="node.kubernetes.io/unschedulable")
    assert too_small(deployment, [node(4, pool="a"), cordoned]) is None
