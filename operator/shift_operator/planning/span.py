"""Over how many nodes a replica goes: one, in a Deployment, or several, in a LeaderWorkerSet.

    no replica runs ── by the nodes and the kinds of the cluster, anew at each look
    one runs ───────── as it is; a message says what would be chosen now, and how to have it

Pods of both kinds never run side by side: they would share one Service, and one number of replicas. So the kind changes
only while there is no pod, which suspending brings about (docs/decisions/0013).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.groups import is_grouped, nodes_of
from shift_operator.planning.manifest import Body
from shift_operator.planning.pods import has_ended

KIND = "LeaderWorkerSet (leaderworkerset.x-k8s.io)"
LONGEST_NAME = 48
"""Of 63 characters of a label: its StatefulSets append a group's index, and their pods' labels a hash to that."""


@dataclass(frozen=True)
class Span:
    """`nodes`: pods of one replica, each on a node of its own. `obstacle`: why no replica can have its nodes, so that
    no more are asked for. `advice`: what would be chosen if no replica ran. `known`: whether the live workload can be
    seen; where it cannot, none may be made."""

    nodes: int = 1
    obstacle: str | None = None
    advice: str | None = None
    known: bool = True


ONE_NODE = Span()


def next_span(
    deployment: ShiftDeployment,
    largest: int | None,
    live: Body | None,
    pods: Sequence[Body],
    *,
    groups_served: bool | None,
) -> Span:
    """The span for now.

    `largest`: see `nodes.too_small`. `live`: the workload that is there. `groups_served`: whether the cluster has
    LeaderWorkerSets that we may use, None while that is not known.
    """
    if live is None and (groups_served is None or any(is_grouped(pod) and not has_ended(pod) for pod in pods)):
        return Span(known=False)
    fresh = _fresh(deployment, largest, served=bool(groups_served))
    if live is None or not _is_in_use(live, pods) or nodes_of(live) == fresh.nodes:
        return fresh
    kept, gpus = nodes_of(live), deployment.spec.parallelism.gpus_per_replica
    fits = largest is None or gpus <= kept * largest
    if fresh.obstacle:
        return Span(kept, None if fits else fresh.obstacle)
    advice = (
        f"the replicas that run span {_nodes(kept)} each, new ones would span {fresh.nodes}; to have that, set "
        f"spec.suspend to true until no pod is left, then to false"
    )
    if fits or largest is None:
        return Span(kept, advice=advice)
    return Span(kept, f"{_too_large(deployment, largest)}, and {advice}", advice)


def _fresh(deployment: ShiftDeployment, largest: int | None, *, served: bool) -> Span:
    if largest is None:
        return Span()
    gpus = deployment.spec.parallelism.gpus_per_replica
    nodes = -(-gpus // largest)
    rest = f"add a larger node, or create a ShiftDeployment with gpusPerReplica of at most {largest}"
    if gpus % nodes:
        even = f"{gpus} GPUs do not divide evenly over {nodes} nodes"
        return Span(obstacle=f"{_too_large(deployment, largest)}, and {even}, so no pod is made: {rest}")
    if not served:
        needs = f"over {nodes} nodes it needs {KIND}, which the cluster lacks or the operator may not use"
        return Span(obstacle=f"{_too_large(deployment, largest)}; {needs}, so no pod is made: install it, {rest}")
    if len(deployment.name) > LONGEST_NAME:
        long = f"over {nodes} nodes its name may have {LONGEST_NAME} characters, and it has {len(deployment.name)}"
        return Span(
            obstacle=f"{_too_large(deployment, largest)}; {long}, so no pod is made: choose a shorter one, {rest}"
        )
    return Span(nodes)


def _is_in_use(live: Body, pods: Sequence[Body]) -> bool:
    return live["spec"].get("replicas", 1) > 0 or any(not has_ended(pod) for pod in pods)


def _too_large(deployment: ShiftDeployment, largest: int) -> str:
    gpus, resource = deployment.spec.parallelism.gpus_per_replica, deployment.spec.scheduling.resource_name
    return f"a replica asks for {gpus} {resource}, the largest node that it may run on has {largest}"


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"
