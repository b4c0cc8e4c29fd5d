"""Names on Kubernetes objects that the operator, the chart and Prometheus agree on (docs/contract.md, section 5)."""

from typing import Final

from shift_operator.api.base import GROUP

FIELD_MANAGER: Final = "shift-operator"

NAME: Final = "app.kubernetes.io/name"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
DEPLOYMENT: Final = f"{GROUP}/deployment"
SCHEDULE_GENERATION: Final = f"{GROUP}/schedule-generation"
SCHEDULE_DEGREE: Final = f"{GROUP}/schedule-degree"
"""On the schedule's ConfigMap while it has several files: the degree that pods were started with which read the file
schedule.json."""
INSTANCE: Final = f"{GROUP}/operator"
"""On a ShiftDeployment: the --instance of the operator that serves it; without the label, the operator without one.
On an operator's Lease: its --instance, empty where it has none."""
WATCH_NAMESPACES: Final = f"{GROUP}/watch-namespaces"
"""On an operator's Lease: the namespaces that it watches, separated by commas; * for all."""
ROLLED_BACK: Final = f"{GROUP}/rolled-back"
"""On the child Deployment while its pods are those of an earlier revision: which attempt was given up, and why."""
TEMPLATE: Final = f"{GROUP}/template"
"""On the pods of replicas over several nodes: a hash of the templates that they are made from."""
POD_TEMPLATE_HASH: Final = "pod-template-hash"
"""Kubernetes' own: on a ReplicaSet and its pods, the end of the ReplicaSet's name."""
REVISION: Final = "deployment.kubernetes.io/revision"
"""Kubernetes' own: the number of a ReplicaSet among its Deployment's, on both."""
DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
"""Kubernetes' own: of a ReplicaSet's ready pods those with the lowest cost are deleted first."""

QUEUE: Final = "kueue.x-k8s.io/queue-name"  # Kueue's own

ENGINE: Final = "shift-engine"
ENGINE_WORKER: Final = "shift-engine-worker"
"""The name of pods that serve no requests of their own: those of a replica over several nodes, save its first."""
OPERATOR: Final = "shift-operator"
ENGINE_CONTAINER: Final = "engine"
HTTP_PORT_NAME: Final = "http"
HTTP_PORT: Final = 8000

# What the operator's watches ask the API server for: our children and their pods, nothing else.
OURS: Final = f"{MANAGED_BY}={OPERATOR}"


def served_by(instance: str) -> str:
    """The label selector of the ShiftDeployments that the operator of this --instance serves."""
    return f"{INSTANCE}={instance}" if instance else f"!{INSTANCE}"


def selector_labels(deployment: str) -> dict[str, str]:
    """The labels that select a ShiftDeployment's pods: a Deployment's immutable selector, so never change them."""
    return {NAME: ENGINE, DEPLOYMENT: deployment}


def child_labels(deployment: str) -> dict[str, str]:
    """The labels of a ShiftDeployment's children and pods."""
    return {**selector_labels(deployment), MANAGED_BY: OPERATOR}


def group_labels(deployment: str) -> dict[str, str]:
    """The labels that select all pods of a ShiftDeployment, also those that do not serve."""
    return {DEPLOYMENT: deployment, MANAGED_BY: OPERATOR}


def worker_labels(deployment: str) -> dict[str, str]:
    """The labels of the pods of a replica over several nodes that do not serve: no selector of ours finds them."""
    return {**child_labels(deployment), NAME: ENGINE_WORKER}


def selector(deployment: str) -> str:
    """`selector_labels` as a label selector string, for status.selector and list calls."""
    return ",".join(f"{key}={value}" for key, value in selector_labels(deployment).items())
