"""What a LeaderWorkerSet's status does not say, its pods do: which replicas are whole, newest, ready, or stuck."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from shift_operator.api import labels
from shift_operator.api.rollout import Rollout, RolloutStrategy
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.asking import Ask, next_ask
from shift_operator.planning.groups import (
    counts_of,
    gpus_held,
    placed_replicas,
    seconds_until_stuck,
    serving,
    to_run_now,
    waiting_replicas,
)
from shift_operator.planning.workload import workload

Build = Callable[..., ShiftDeployment]
T0 = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SIXTEEN = {"gpusPerReplica": 16, "degree": {"sequence": 16, "tensor": 1}}


def pod(group: int, index: int, of: str, *, ready: bool = True, node: str | None = "n", since: datetime = T0) -> Any:
    conditions = [{"type": "Ready", "status": str(ready), "lastTransitionTime": since.isoformat()}]
    if node is None:
        words = {"reason": "Unschedulable", "message": "0/2 nodes", "lastTransitionTime": since.isoformat()}
        conditions = [{"type": "PodScheduled", "status": "False", **words}]
    return {
        "metadata": {
            "name": f"chat-{group}-{index}" if index else f"chat-{group}",
            "labels": {
                labels.NAME: labels.ENGINE_WORKER if index else labels.ENGINE,
                "leaderworkerset.sigs.k8s.io/name": "chat",
                "leaderworkerset.sigs.k8s.io/group-index": str(group),
            },
            "annotations": {"leaderworkerset.sigs.k8s.io/size": "2", labels.TEMPLATE: of},
        },
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": "Running" if node else "Pending", "conditions": conditions},
    }


def live(deployment: ShiftDeployment, replicas: int, at_work_since: datetime | None = None) -> tuple[Any, str]:
    """The LeaderWorkerSet, and what its pods are made from."""
    body = dict(workload(deployment, replicas, nodes=2).body)
    began = {"type": "Progressing", "status": str(at_work_since is not None), "lastTransitionTime": T0.isoformat()}
    if at_work_since is not None:
        began["lastTransitionTime"] = at_work_since.isoformat()
    body["status"] = {"conditions": [began]}
    annotations = body["spec"]["leaderWorkerTemplate"]["leaderTemplate"]["metadata"]["annotations"]
    return body, annotations[labels.TEMPLATE]


def test_a_replica_counts_once_it_is_whole(a_deployment: Build) -> None:
    body, new = live(a_deployment(parallelism=SIXTEEN), 3)
    pods = [pod(0, 0, new), pod(0, 1, new), pod(1, 0, new), pod(1, 1, new, ready=False), pod(2, 0, new)]
    counts = counts_of(body, pods)
    assert (counts.replicas, counts.ready, counts.available, counts.updated) == (3, 1, 1, 3)
    assert [p["metadata"]["name"] for p in serving(pods)] == ["chat-0", "chat-1", "chat-2"]
    assert placed_replicas(pods) == 2
    assert gpus_held(pods, 16) == 5 * 8


def test_only_pods_of_the_newest_templates_are_updated(a_deployment: Build) -> None:
    body, new = live(a_deployment(parallelism=SIXTEEN), 2)
    pods = [pod(0, 0, "older"), pod(0, 1, "older"), pod(1, 0, new), pod(1, 1, new)]
    counts = counts_of(body, pods)
    assert (counts.replicas, counts.updated) == (2, 1)
    assert not counts.settled(2)
    assert counts_of(body, [pod(g, i, new) for g in (0, 1) for i in (0, 1)]).settled(2)


def test_one_that_gets_on_is_not_stuck_and_pods_that_come_anew_are_no_progress(a_deployment: Build) -> None:
    body, new = live(a_deployment(parallelism=SIXTEEN), 2, at_work_since=T0)
    failing = [pod(1, 0, new, ready=False, since=T0 + timedelta(seconds=95)), pod(1, 1, new)]
    later = T0 + timedelta(seconds=101)
    assert counts_of(body, failing, later, 100).stuck
    assert seconds_until_stuck(body, failing, T0 + timedelta(seconds=60), 100) == 40
    got_on = [pod(0, 0, new, since=T0 + timedelta(seconds=50)), pod(0, 1, new), *failing]
    assert not counts_of(body, got_on, later, 100).stuck
    at_rest, _ = live(a_deployment(parallelism=SIXTEEN), 2)
    assert not counts_of(at_rest, got_on, later, 1).stuck
    assert seconds_until_stuck(at_rest, got_on, later, 1) is None


def test_a_replica_of_which_one_pod_finds_no_node_is_released_whole(a_deployment: Build) -> None:
    deployment = a_deployment(parallelism=SIXTEEN, replicas=2)
    body, new = live(deployment, 2)
    pods = [pod(0, 0, new), pod(0, 1, new), pod(1, 0, new), pod(1, 1, new, node=None)]
    assert waiting_replicas(pods) == 1
    ask = next_ask(deployment, 2, body, pods, T0 + timedelta(seconds=60))
    assert ask.replicas == 1
    assert ask.release is not None
    assert next_ask(deployment, 2, body, pods[:2], T0, "no") == Ask(1, obstacle="no")


def test_no_replica_that_has_its_nodes_goes_for_one_that_waits(a_deployment: Build) -> None:
    """LeaderWorkerSet takes the highest index first: with one replica less, the one that runs would go."""
    deployment = a_deployment(parallelism=SIXTEEN, replicas=2)
    body, new = live(deployment, 2)
    pods = [pod(0, 0, new, node=None), pod(1, 0, new), pod(1, 1, new)]
    assert placed_replicas(pods) == 2
    assert next_ask(deployment, 2, body, pods, T0 + timedelta(seconds=600)) == Ask(2)
    assert next_ask(deployment, 2, body, pods, T0, "no") == Ask(2, obstacle="no")


def test_recreate_ends_all_old_pods_before_the_first_new_one(a_deployment: Build) -> None:
    body, new = live(a_deployment(parallelism=SIXTEEN), 2)
    recreate, auto = Rollout(strategy=RolloutStrategy.RECREATE), Rollout()
    assert to_run_now(recreate, body, [pod(0, 0, "older"), pod(1, 0, new)], 2) == 0
    assert to_run_now(recreate, body, [pod(0, 0, new)], 2) == 2
    assert to_run_now(recreate, body, [], 2) == 2
    assert to_run_now(auto, body, [pod(0, 0, "older")], 2) == 2
