"""The children that a ShiftDeployment should have: equal inputs give equal plans, no accepted spec makes it raise."""

from collections.abc import Collection

from shift_operator.api.schedule import SCHEDULE_KEY, Schedule
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.disruption_budget import disruption_budget
from shift_operator.planning.inference_pool import inference_pool
from shift_operator.planning.manifest import Manifest
from shift_operator.planning.network_policy import network_policy
from shift_operator.planning.pod_monitor import pod_monitor
from shift_operator.planning.rollback import WentBack
from shift_operator.planning.rollout import Replacing
from shift_operator.planning.schedule_files import ScheduleFiles, schedule_config_map
from shift_operator.planning.service import service, service_account
from shift_operator.planning.span import ONE_NODE, Span
from shift_operator.planning.workload import workload

# Children whose kinds a cluster may lack.
OPTIONAL = {
    "PodMonitor": pod_monitor,
    "InferencePool": inference_pool,
}


def plan(
    deployment: ShiftDeployment,
    schedule: Schedule,
    replicas: int,
    optional_kinds: Collection[str] = (),
    replacing: Replacing | None = None,
    instead: WentBack | None = None,
    file: str = SCHEDULE_KEY,
    files: ScheduleFiles | None = None,
    span: Span = ONE_NODE,
) -> tuple[Manifest, ...]:
    """The children in the order to apply them: a pod never waits for an object that comes after it.

    `replicas`: how many should run now (`wanted_replicas`). `optional_kinds`: those of OPTIONAL that the cluster has.
    `replacing`: how pods are to be replaced; None for how it is while no rollout runs. `instead`: what runs in place of
    the spec's pods, after a rollout that was given up. `file`: which the spec's pods read. `files`: all that pods read;
    None for `schedule` alone. `span`: over how many nodes each replica goes.
    """
    return (
        service_account(deployment),
        schedule_config_map(deployment, files or ScheduleFiles({file: schedule})),
        service(deployment),
        disruption_budget(deployment, span.nodes),
        *([network_policy(deployment, span.nodes)] if deployment.spec.network_policy.enabled else []),
        *([workload(deployment, replicas, replacing, instead, file, span.nodes)] if span.known else []),
        *(make(deployment) for kind, make in OPTIONAL.items() if kind in optional_kinds),
    )
