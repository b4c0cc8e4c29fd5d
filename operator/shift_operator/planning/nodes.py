"""Which nodes a replica may run on, and how many more of them fit there.

A forecast of the scheduler, from what decides in practice: node conditions, taints, selectors, required node affinity
and the GPUs. Pod affinity and topology spread are left out: a pod that finds no node after all tells it by itself.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from shift_operator.api.affinity import NodeRequirement, NodeSelectorOperator, NodeSelectorTerm
from shift_operator.api.scheduling import Scheduling, Toleration, TolerationOperator
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.manifest import Body
from shift_operator.planning.pods import has_ended


def room(deployment: ShiftDeployment, nodes: Iterable[Body], pods: Iterable[Body], nodes_per_replica: int = 1) -> int:
    """Replicas that fit beside everything that runs. `pods`: all of the cluster, of which those on a node count."""
    scheduling, gpus = deployment.spec.scheduling, deployment.spec.parallelism.gpus_per_replica // nodes_per_replica
    taken = gpus_taken(pods, scheduling.resource_name)
    fitting = 0
    for node in nodes:
        if is_eligible(node, scheduling):
            allocatable = _count(((node.get("status") or {}).get("allocatable") or {}).get(scheduling.resource_name))
            fitting += max(0, allocatable - taken[node["metadata"]["name"]]) // gpus
    return fitting // nodes_per_replica


def too_small(deployment: ShiftDeployment, nodes: Iterable[Body]) -> int | None:
    """The GPUs of the largest node that a replica may run on, where that is too few for it. None where it is enough, or
    no such node is known: it may come.

    A node that is cordoned, or not ready, or whose device plugin is away, comes back: it counts with all that it has.
    """
    scheduling, asked = deployment.spec.scheduling, deployment.spec.parallelism.gpus_per_replica
    largest = 0
    for node in nodes:
        gpus = _gpus(node, scheduling.resource_name)
        if gpus > largest and _may_run_on(node, scheduling, lasting=True):
            largest = gpus
            if largest >= asked:
                return None
    return largest or None


def _gpus(node: Body, resource: str) -> int:
    status = node.get("status") or {}
    return max(_count((status.get(kind) or {}).get(resource)) for kind in ("capacity", "allocatable"))


def gpus_taken(pods: Iterable[Body], resource: str) -> Counter[str]:
    """The GPUs that pods hold, by node. A pod that ends holds them until it is gone."""
    taken: Counter[str] = Counter()
    for pod in pods:
        node = pod["spec"].get("nodeName")
        if node and not has_ended(pod):
            taken[node] += _asked(pod["spec"], resource)
    return taken


def is_eligible(node: Body, scheduling: Scheduling) -> bool:
    """Whether the scheduler would consider this node for a replica, GPUs aside."""
    unschedulable = (node.get("spec") or {}).get("unschedulable")
    return not unschedulable and _is_ready(node) and _may_run_on(node, scheduling)


def _may_run_on(node: Body, scheduling: Scheduling, *, lasting: bool = False) -> bool:
    """By the node's labels and taints; `lasting` leaves out Kubernetes' own taints, which tell a passing state."""
    labels: Mapping[str, str] = node["metadata"].get("labels") or {}
    taints = (node.get("spec") or {}).get("taints") or ()
    return (
        all(
            _tolerated(taint, scheduling.tolerations)
            for taint in taints
            if not (lasting and taint["key"].startswith("node.kubernetes.io/"))
        )
        and all(labels.get(key) == value for key, value in scheduling.node_selector.items())
        and _has_affinity(node, labels, scheduling)
    )


def _is_ready(node: Body) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _tolerated(taint: Mapping[str, Any], tolerations: Iterable[Toleration]) -> bool:
    return taint.get("effect") == "PreferNoSchedule" or any(_matches(t, taint) for t in tolerations)


def _matches(toleration: Toleration, taint: Mapping[str, Any]) -> bool:
    if toleration.effect is not None and toleration.effect != taint.get("effect"):
        return False
    if toleration.key is not None and toleration.key != taint["key"]:
        return False
    exists = toleration.operator is TolerationOperator.EXISTS
    return exists or (toleration.value or "") == (taint.get("value") or "")


def _has_affinity(node: Body, labels: Mapping[str, str], scheduling: Scheduling) -> bool:
    affinity = scheduling.affinity.node_affinity if scheduling.affinity else None
    required = affinity.required_during_scheduling_ignored_during_execution if affinity else None
    if required is None:
        return True
    fields = {"metadata.name": node["metadata"]["name"]}
    return any(_term_holds(term, labels, fields) for term in required.node_selector_terms)


def _term_holds(term: NodeSelectorTerm, labels: Mapping[str, str], fields: Mapping[str, str]) -> bool:
    expressions, on_fields = term.match_expressions or (), term.match_fields or ()
    if not expressions and not on_fields:
        return False  # an empty term selects nothing, as in Kubernetes
    return all(_holds(e, labels) for e in expressions) and all(_holds(f, fields) for f in on_fields)


def _holds(requirement: NodeRequirement, labels: Mapping[str, str]) -> bool:
    value, values = labels.get(requirement.key), requirement.values or ()
    match requirement.operator:
        case NodeSelectorOperator.IN:
            return value in values
        case NodeSelectorOperator.NOT_IN:
            return value not in values
        case NodeSelectorOperator.EXISTS:
            return value is not None
        case NodeSelectorOperator.DOES_NOT_EXIST:
            return value is None
    try:  # Gt and Lt compare whole numbers
        difference = int(value or "") - int(values[0])
    except (ValueError, IndexError):
        return False
    return difference > 0 if requirement.operator is NodeSelectorOperator.GREATER_THAN else difference < 0


def _asked(spec: Mapping[str, Any], resource: str) -> int:
    """What a pod holds: its containers together, or one of its init containers if that asks for more."""

    def of(container: Mapping[str, Any]) -> int:
        resources = container.get("resources") or {}
        asked = (resources.get("requests") or {}).get(resource, (resources.get("limits") or {}).get(resource))
        return _count(asked)

    together = sum(map(of, spec.get("containers") or ()))
    return max([together, *map(of, spec.get("initContainers") or ())])


def _count(quantity: Any) -> int:
    """An extended resource's quantity, which is a whole number; "1k" is one, too, and none that a GPU node has."""
    return int(quantity) if quantity is not None and str(quantity).isdecimal() else 0
