"""Names on Kubernetes objects that the operator, the chart and Prometheus agree on (docs/contract.md, section 5)."""

from typing import Final

from shift_operator.api.base import GROUP

FIELD_MANAGER: Final = "shift-operator"

NAME: Final = "app.kubernetes.io/name"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
DEPLOYMENT: Final = f"{GROUP}/deployment"
SCHEDULE_GENERATION: Final = f"{GROUP}/schedule-generation"

ENGINE: Final = "shift-engine"
OPERATOR: Final = "shift-operator"
ENGINE_CONTAINER: Final = "engine"
HTTP_PORT_NAME: Final = "http"
HTTP_PORT: Final = 8000

# What the operator's watches ask the API server for: our children and their pods, nothing else.
OURS: Final = f"{MANAGED_BY}={OPERATOR}"


def selector_labels(deployment: str) -> dict[str, str]:
    """The labels that select a ShiftDeployment's pods: a Deployment's immutable selector, so never change them."""
    return {NAME: ENGINE, DEPLOYMENT: deployment}


def child_labels(deployment: str) -> dict[str, str]:
    """The labels of a ShiftDeployment's children and pods."""
    return {**selector_labels(deployment), MANAGED_BY: OPERATOR}


def selector(deployment: str) -> str:
    """`selector_labels` as a label selector string, for status.selector and list calls."""
    return ",".join(f"{key}={value}" for key, value in selector_labels(deployment).items())
