"""How many replicas should run: the user's number, or the operator's decision within the user's bounds."""

from shift_operator.api.scaling import ScalingMode
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.manifest import Body


def wanted_replicas(deployment: ShiftDeployment, decided: int | None, workload: Body | None) -> int:
    """The replicas that should run now. Unit: replicas.

    `decided`: what the replicas law asked this process for; None where it has not. `workload`: the live child
    Deployment. Only scaling.mode Managed looks at them. Until there is a decision the number stays: the one that the
    status has, so that a restart of the operator moves nothing, else the replicas that run, so that the switch to
    Managed moves nothing. A new deployment starts with spec.replicas. The user's bounds hold always, also for a
    decision made before they were narrowed.
    """
    spec = deployment.spec
    if spec.suspend:
        return 0
    if spec.scaling.mode is not ScalingMode.MANAGED:
        return spec.replicas
    if decided is None and deployment.status is not None:
        decided = deployment.status.desired_replicas
    if decided is None:
        decided = _running(workload) or max(spec.replicas, spec.scaling.lowest)
    return spec.scaling.within(decided)


def desired_replicas(deployment: ShiftDeployment, wanted: int) -> int | None:
    """What the status remembers of `wanted`, so that a suspended deployment comes back with what it had.

    None where the number is the user's.
    """
    if deployment.spec.scaling.mode is not ScalingMode.MANAGED:
        return None
    if deployment.spec.suspend:
        return deployment.status.desired_replicas if deployment.status else None
    return wanted


def _running(workload: Body | None) -> int:
    """Replicas that the child Deployment asks for; 0 where there is none yet, or it is suspended."""
    return int(((workload or {}).get("spec") or {}).get("replicas") or 0)
