"""What runs the replicas: a Deployment where a replica is one pod, a LeaderWorkerSet where it is a group of them.

Nothing live is in it: a new threshold leaves it as it is.
"""

from shift_operator.api import labels
from shift_operator.api.schedule import SCHEDULE_KEY
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.groups import LEADER_WORKER_SET, digest
from shift_operator.planning.manifest import Body, Manifest, child, with_annotations, with_labels
from shift_operator.planning.names import workload_name
from shift_operator.planning.pod import Role, pod_template, queue_labels
from shift_operator.planning.rollback import WentBack
from shift_operator.planning.rollout import AT_REST, Replacing, strategy_of
from shift_operator.planning.schedule_files import reading

# Old ReplicaSets kept for `kubectl rollout undo` to look at; each is small.
REVISION_HISTORY = 5


def workload(
    deployment: ShiftDeployment,
    replicas: int,
    replacing: Replacing | None = None,
    instead: WentBack | None = None,
    file: str = SCHEDULE_KEY,
    nodes: int = 1,
) -> Manifest:
    """The workload whose replicas have `nodes` pods each. The other arguments are `plan`'s."""
    replacing = replacing or strategy_of(deployment.spec.rollout, AT_REST)
    if nodes > 1:
        return _groups(deployment, replicas, replacing, file, nodes)
    spec = {
        "replicas": replicas,
        "revisionHistoryLimit": REVISION_HISTORY,
        "progressDeadlineSeconds": deployment.spec.rollout.progress_deadline_seconds,
        "strategy": replacing.to_body(),
        "selector": {"matchLabels": labels.selector_labels(deployment.name)},
        "template": instead.template if instead else reading(pod_template(deployment), file),
    }
    manifest = child(deployment, "apps/v1", "Deployment", workload_name(deployment.name), {"spec": spec})
    manifest = with_labels(manifest, queue_labels(deployment.spec.scheduling))
    if instead is None:
        return manifest
    return with_annotations(manifest, {labels.ROLLED_BACK: instead.given_up.to_annotation()})


def _groups(deployment: ShiftDeployment, replicas: int, replacing: Replacing, file: str, nodes: int) -> Manifest:
    leader, worker = (reading(pod_template(deployment, Role(nodes, serves=s)), file) for s in (True, False))
    made_from = digest([leader, worker])
    spec = {
        "replicas": replicas,
        "leaderWorkerTemplate": {
            "size": nodes,
            # An engine does not outlive any of its ranks, and none of them can join another engine.
            "restartPolicy": "RecreateGroupOnPodRestart",
            "leaderTemplate": _annotated(leader, made_from),
            "workerTemplate": _annotated(worker, made_from),
        },
        "rolloutStrategy": replacing.to_group_body(),
        "startupPolicy": "LeaderCreated",  # each rank waits for all others while it starts
        # A headless Service per group. The one that all groups would share has the name of ours, which is not headless.
        "networkConfig": {"subdomainPolicy": "UniquePerReplica"},
    }
    name = workload_name(deployment.name)
    manifest = child(deployment, "leaderworkerset.x-k8s.io/v1", LEADER_WORKER_SET, name, {"spec": spec})
    return with_labels(manifest, queue_labels(deployment.spec.scheduling))


def _annotated(template: Body, made_from: str) -> Body:
    metadata = template["metadata"]
    annotations = {**metadata.get("annotations", {}), labels.TEMPLATE: made_from}
    return {**template, "metadata": {**metadata, "annotations": annotations}}
