"""How many replicas may be evicted at a time."""

from shift_operator.api import labels
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.manifest import Manifest, child
from shift_operator.planning.names import workload_name


def disruption_budget(deployment: ShiftDeployment, nodes: int = 1) -> Manifest:
    """The PodDisruptionBudget: one replica at a time unless the user says how many must stay.

    Over several nodes it counts all pods, since a replica ends with any of its own. With one pod of a replica all of
    them go, so that the pods that must stay are those of minAvailable replicas, and all but one of the next.
    """
    stay, selector = deployment.spec.disruption.min_available, labels.selector_labels(deployment.name)
    if nodes > 1:
        stay, selector = stay and stay * nodes + nodes - 1, labels.group_labels(deployment.name)
    spec = {
        **({"maxUnavailable": 1} if stay is None else {"minAvailable": stay}),
        "selector": {"matchLabels": selector},
        # A replica that does not serve protects nobody, and would block the drain of its node for good.
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return child(deployment, "policy/v1", "PodDisruptionBudget", workload_name(deployment.name), {"spec": spec})
