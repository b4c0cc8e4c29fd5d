"""The children that a ShiftDeployment should have: equal inputs give equal plans, no accepted spec makes it raise."""

from shift_operator.api import labels
from shift_operator.api.schedule import Schedule
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.manifest import Manifest, child
from shift_operator.planning.names import workload_name
from shift_operator.planning.pod import pod_template
from shift_operator.planning.schedule import schedule_config_map
from shift_operator.planning.service import service, service_account

# Old ReplicaSets kept for `kubectl rollout undo` to look at; each is small.
REVISION_HISTORY = 5


def plan(deployment: ShiftDeployment, schedule: Schedule) -> tuple[Manifest, ...]:
    """The children in the order to apply them: a pod never waits for an object that comes after it."""
    return (
        service_account(deployment),
        schedule_config_map(deployment, schedule),
        service(deployment),
        workload(deployment),
    )


def workload(deployment: ShiftDeployment) -> Manifest:
    """The Deployment whose pods are the replicas. Nothing live is in it: a new threshold leaves it as it is."""
    rollout = deployment.spec.rollout
    spec = {
        "replicas": deployment.wanted_replicas,
        "revisionHistoryLimit": REVISION_HISTORY,
        "progressDeadlineSeconds": rollout.progress_deadline_seconds,
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": rollout.max_surge, "maxUnavailable": rollout.max_unavailable},
        },
        "selector": {"matchLabels": labels.selector_labels(deployment.name)},
        "template": pod_template(deployment),
    }
    return child(deployment, "apps/v1", "Deployment", workload_name(deployment.name), {"spec": spec})
