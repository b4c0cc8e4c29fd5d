"""A replica's pods: one, or a group of several on as many nodes, of which one, the leader, serves.

A group is LeaderWorkerSet's word and its controller's work: it makes the pods, and makes all of a group anew where one
of them ends. Its own status tells neither for which version of its spec it is nor which replicas are available, so here
both are counted from the pods.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from shift_operator.api import labels
from shift_operator.api.rollout import Rollout, RolloutStrategy
from shift_operator.planning.conditions import Counts
from shift_operator.planning.manifest import Body
from shift_operator.planning.pods import has_ended, is_ending, is_placed, is_ready, waiting
from shift_operator.planning.rollout import Replacing

LEADER_WORKER_SET = "LeaderWorkerSet"
Pod = TypeVar("Pod", bound=Body)

_NAME = "leaderworkerset.sigs.k8s.io/name"
_GROUP_INDEX = "leaderworkerset.sigs.k8s.io/group-index"
_SIZE = "leaderworkerset.sigs.k8s.io/size"


def has_groups(workload: Body) -> bool:
    """Whether each replica of a live workload is a group."""
    return bool(workload.get("kind") == LEADER_WORKER_SET)


def nodes_of(workload: Body) -> int:
    """Pods of one replica of a live workload, each on a node of its own."""
    if not has_groups(workload):
        return 1
    return int(workload["spec"]["leaderWorkerTemplate"].get("size", 1))


def template_of(workload: Body) -> Body:
    """The template of the pods that serve, in a live workload."""
    spec = workload["spec"]
    template: Body = spec["leaderWorkerTemplate"]["leaderTemplate"] if has_groups(workload) else spec["template"]
    return template


def is_grouped(pod: Body) -> bool:
    """Whether the pod belongs to a group."""
    return _NAME in (pod["metadata"].get("labels") or {})


def serving(pods: Iterable[Pod]) -> tuple[Pod, ...]:
    """One pod of each replica: the one with the API server."""
    return tuple(pod for pod in pods if (pod["metadata"].get("labels") or {}).get(labels.NAME) != labels.ENGINE_WORKER)


def placed_replicas(pods: Iterable[Body]) -> int:
    """Replicas of which every pod has a node and its GPUs.

    Groups go from the highest index down, also past one that waits: of them all count up to the last that is placed.
    """
    placed = [group for group in _groups(pods) if sum(map(is_placed, group)) >= _size(group[0])]
    alone = sum(not is_grouped(group[0]) for group in placed)
    return alone + max((_index(group[0]) + 1 for group in placed if is_grouped(group[0])), default=0)


def waiting_replicas(pods: Iterable[Body]) -> int:
    """Replicas of which a pod finds no node."""
    return sum(bool(waiting(group)) for group in _groups(pods))


def gpus_held(pods: Iterable[Body], gpus_per_replica: int) -> int:
    """The GPUs of pods that have not ended, of those that are ending too. Each pod of a group has an equal part."""
    return sum(gpus_per_replica // _size(pod) for pod in pods if not has_ended(pod))


def digest(templates: Sequence[Mapping[str, object]]) -> str:
    """Names what a group's pods are made from."""
    return hashlib.sha256(json.dumps(templates, sort_keys=True).encode()).hexdigest()[:16]


def counts_of(
    workload: Body | None, pods: Iterable[Body], now: datetime | None = None, deadline_seconds: int = 0
) -> Counts:
    """The counts of a live workload, in replicas. `now` and the deadline tell whether groups are stuck, for which
    LeaderWorkerSet has no word; without them they are not."""
    if workload is None or not has_groups(workload):
        return Counts.of(workload)
    newest = _made_from(template_of(workload))
    groups = [group for group in _groups(pods) if not any(map(is_ending, serving(group)))]
    ready = [group for group in groups if sum(map(is_ready, group)) >= _size(group[0])]
    since = _progress_since(workload, ready)
    return Counts(
        replicas=len(groups),
        ready=len(ready),
        updated=sum(all(_made_from(pod) == newest for pod in group) for group in groups),
        available=len(ready),
        current=bool((workload.get("status") or {}).get("conditions")),
        stuck=now is not None and since is not None and now >= since + timedelta(seconds=deadline_seconds),
        may_miss=Replacing.of(workload).max_unavailable,
    )


def seconds_until_stuck(workload: Body | None, pods: Iterable[Body], now: datetime, deadline: int) -> float | None:
    """When `counts_of` will say `stuck` by the passing of time alone; None where it will not."""
    if workload is None or not has_groups(workload):
        return None
    ready = [group for group in _groups(pods) if sum(map(is_ready, group)) >= _size(group[0])]
    since = _progress_since(workload, ready)
    ahead = None if since is None else (since + timedelta(seconds=deadline) - now).total_seconds()
    return ahead if ahead is not None and ahead > 0 else None


def to_run_now(rollout: Rollout, wanted: Body, pods: Iterable[Body], replicas: int) -> int:
    """The replicas that `wanted`, a LeaderWorkerSet, may have now: none with strategy Recreate, which the kind itself
    lacks, until all pods of other templates are gone."""
    if rollout.strategy is not RolloutStrategy.RECREATE:
        return replicas
    newest = _made_from(template_of(wanted))
    return 0 if any(_made_from(pod) != newest and not has_ended(pod) for pod in pods) else replicas


def _groups(pods: Iterable[Body]) -> list[list[Body]]:
    """The pods of each replica; a pod that belongs to no group is one by itself."""
    found: dict[str, list[Body]] = {}
    for pod in pods:
        metadata = pod["metadata"]
        index = (metadata.get("labels") or {}).get(_GROUP_INDEX)
        found.setdefault(f"/{metadata['name']}" if index is None else index, []).append(pod)
    return [group for group in found.values() if serving(group)]


def _index(pod: Body) -> int:
    return int((pod["metadata"].get("labels") or {}).get(_GROUP_INDEX, 0))


def _size(pod: Body) -> int:
    size = str((pod["metadata"].get("annotations") or {}).get(_SIZE, ""))
    return max(int(size), 1) if size.isdecimal() else 1


def _made_from(pod: Body) -> str | None:
    """By what we wrote into the template; a pod and its template say the same."""
    value: str | None = ((pod.get("metadata") or {}).get("annotations") or {}).get(labels.TEMPLATE)
    return value


def _progress_since(workload: Body, ready: Iterable[Sequence[Body]]) -> datetime | None:
    """When a LeaderWorkerSet that is at work last got on: when it began, or when a replica became ready. None while it
    is at rest.

    Pods that come anew are no progress: a group that fails comes anew for ever.
    """
    conditions = (workload.get("status") or {}).get("conditions") or ()
    began = next((c for c in conditions if c["type"] == "Progressing" and c["status"] == "True"), None)
    if began is None:
        return None
    times = [began["lastTransitionTime"]]
    for group in ready:
        for pod in serving(group):
            times += [c["lastTransitionTime"] for c in pod["status"]["conditions"] if c["type"] == "Ready"]
    return max(datetime.fromisoformat(time) for time in times)
