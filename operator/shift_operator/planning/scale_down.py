"""Which replicas go when there are to be fewer: those with the least to finish.

Of a Deployment. A LeaderWorkerSet's go from the highest index down, as a StatefulSet's do, and nothing changes that.

The ReplicaSet controller takes pods that are not ready first, then by deletion cost: that is the engine's requests.
"""

from collections.abc import Mapping

from shift_operator.planning.groups import has_groups
from shift_operator.planning.manifest import Body

# Kubernetes takes the cost as an int32.
_HIGHEST_COST = 2**31 - 1


def goes_down(workload: Body | None, wanted: int) -> bool:
    """Whether applying `wanted` replicas makes the ReplicaSet controller choose among pods: some go and some stay."""
    return workload is not None and not has_groups(workload) and 0 < wanted < workload["spec"].get("replicas", 1)


def deletion_costs(requests: Mapping[str, int | None]) -> dict[str, int]:
    """The cost of each pod from the requests, running and waiting, that its engine has.

    None is an engine that did not say: too busy to answer is more likely than idle, so it is the last to go.
    """
    return {pod: _HIGHEST_COST if count is None else min(count, _HIGHEST_COST) for pod, count in requests.items()}
