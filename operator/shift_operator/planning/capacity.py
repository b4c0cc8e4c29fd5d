"""Whether the cluster has the GPUs that a deployment asks for, by what the scheduler says of its pods."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from shift_operator.api.conditions import CapacityReason, ConditionStatus
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.api.status import CapacityRelease
from shift_operator.planning.asking import Ask, capacity_deadline, first
from shift_operator.planning.conditions import Verdict
from shift_operator.planning.groups import waiting_replicas
from shift_operator.planning.manifest import Body
from shift_operator.planning.pods import Waiting, waiting


def capacity_available(
    deployment: ShiftDeployment,
    pods: Sequence[Body],
    now: datetime,
    wanted: int = 0,
    ask: Ask | None = None,
    advice: str | None = None,
) -> Verdict:
    """False once a pod has waited for a node for capacityDeadlineSeconds, until all `wanted` replicas have one. The
    message counts replicas and the GPUs that they ask for; where all have what they need, it is the `advice`."""
    if ask is not None and ask.obstacle is not None:
        return Verdict(ConditionStatus.FALSE, CapacityReason.NO_NODE_LARGE_ENOUGH, ask.obstacle)
    longest = first(waiting(pods))
    if ask is not None and ask.release is not None and not ask.retries(now):
        return Verdict(ConditionStatus.FALSE, CapacityReason.RELEASED, _released(deployment, wanted, ask.release))
    if longest is None:
        if ask is not None and ask.release is not None:  # its pods are not there yet
            message = f"{wanted} replicas are asked for again; {ask.release.message}"
            return Verdict(ConditionStatus.FALSE, CapacityReason.UNSCHEDULABLE, message)
        return Verdict(ConditionStatus.TRUE, CapacityReason.SCHEDULED, advice or "")
    message = _waits(deployment, waiting_replicas(pods), longest)
    tried_before = ask is not None and ask.release is not None
    if now < longest.since + capacity_deadline(deployment) and not tried_before:
        return Verdict(ConditionStatus.TRUE, CapacityReason.WAITING_FOR_NODE, message)
    return Verdict(ConditionStatus.FALSE, CapacityReason.UNSCHEDULABLE, message)


def seconds_to_deadline(deployment: ShiftDeployment, pods: Iterable[Body], now: datetime) -> float | None:
    """When CapacityAvailable will turn False by the passing of time alone; None where it will not."""
    deadline = capacity_deadline(deployment)
    ahead = [(w.since + deadline - now).total_seconds() for w in waiting(pods)]
    return min((seconds for seconds in ahead if seconds > 0), default=None)


def _waits(deployment: ShiftDeployment, count: int, longest: Waiting) -> str:
    return (
        f"{count} replica{'s wait' if count > 1 else ' waits'} for a node, {_gpus(deployment, count)} asked; "
        f"pod {longest.pod}: {longest.message}"
    )


def _released(deployment: ShiftDeployment, wanted: int, release: CapacityRelease) -> str:
    rest = wanted - release.replicas
    often = "once" if release.tries == 1 else f"{release.tries} times"
    return (
        f"{release.replicas} of {wanted} replicas have a node; {_gpus(deployment, rest)} for the other {rest} were "
        f"asked {often} in vain and are asked for again at {release.retry_time:%H:%M:%S} UTC; {release.message}"
    )


def _gpus(deployment: ShiftDeployment, replicas: int) -> str:
    asked = replicas * deployment.spec.parallelism.gpus_per_replica
    return f"{asked} {deployment.spec.scheduling.resource_name}"
