"""The conditions of a ShiftDeployment and the closed lists of their reasons.

People write alerts on these words: the lists only grow. docs/reference/conditions.md says what to do about each.
"""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, TypeAlias

from pydantic import Field

from shift_operator.api.base import ApiType, Time, to_the_second


class ConditionType(StrEnum):
    AVAILABLE = "Available"  # at least as many replicas serve as must
    PROGRESSING = "Progressing"  # a rollout runs or is complete; False: it is stuck
    DEGRADED = "Degraded"  # something needs a person; the message says what
    METRICS_AVAILABLE = "MetricsAvailable"  # the signals that mode Auto decides on are there and fresh
    CONFIGURATION_APPLIED = "ConfigurationApplied"  # every rank of every ready pod runs the wanted schedule
    CAPACITY_AVAILABLE = "CapacityAvailable"  # no pod has waited for a node for too long
    POLICY_APPLIED = "PolicyApplied"  # it is known which policy applies, and it is the one relied on
    CONFLICT = "Conflict"  # another install of the operator would serve it too, and leaves it to the one that writes


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class AvailableReason(StrEnum):
    REPLICAS_READY = "ReplicasReady"  # True: at most maxUnavailable replicas are missing
    REPLICAS_NOT_READY = "ReplicasNotReady"  # False: more are missing
    NOT_OBSERVED = "NotObserved"  # Unknown: the workload does not exist or has no status yet
    SUSPENDED = "Suspended"  # False: spec.suspend
    SCALED_TO_ZERO = "ScaledToZero"  # False: spec.replicas is 0, or scaling.idle.replicas while nobody asks


class ProgressingReason(StrEnum):
    ROLLOUT_COMPLETE = "RolloutComplete"  # True: every replica is of the newest template and available
    ROLLING_OUT = "RollingOut"  # True: replicas are being replaced or started
    WAITING_FOR_NODE = "WaitingForNode"  # True: the scheduler finds no node for a pod; the message is its own
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"  # False: no progress for progressDeadlineSeconds
    ROLLED_BACK = "RolledBack"  # False: the same, and the pods are of the last good revision; the message says why


class DegradedReason(StrEnum):
    AS_EXPECTED = "AsExpected"  # False: nothing to say
    NAME_TAKEN = "NameTaken"  # True: an object that is not ours has a child's name
    WRITE_REFUSED = "WriteRefused"  # True: the API server refuses a child: permission, quota or admission
    ENGINE_FAILED = "EngineFailed"  # True: an engine ended; the message is its own
    IMAGE_UNAVAILABLE = "ImageUnavailable"  # True: the engine's image cannot be pulled
    CONTAINER_FAILED = "ContainerFailed"  # True: a container of spec.template ended with an error
    CONTAINER_UNSTARTABLE = "ContainerUnstartable"  # True: the container cannot be made, e.g. a Secret is missing
    POD_FAILED = "PodFailed"  # True: a kubelet refused a pod or ended it; the message is its own


class MetricsReason(StrEnum):
    METRICS_FOUND = "MetricsFound"  # True
    METRICS_MISSING = "MetricsMissing"  # False: a needed series is absent; the message names it
    METRICS_STALE = "MetricsStale"  # False: its last sample is too old
    METRICS_PARTIAL = "MetricsPartial"  # False: fewer pods report than are ready, or a series has gaps
    PROMETHEUS_UNREACHABLE = "PrometheusUnreachable"  # Unknown: the query failed; the message is its error
    NO_READY_PODS = "NoReadyPods"  # Unknown: no engine runs that could have metrics
    NOT_ASKED = "NotAsked"  # Unknown: the decision loop has not looked yet


class ConfigurationReason(StrEnum):
    CONFIRMED = "Confirmed"  # True: every rank of every ready pod confirms the wanted generation
    WAITING_FOR_PODS = "WaitingForPods"  # False: some have not confirmed it; the message says why
    NO_READY_PODS = "NoReadyPods"  # Unknown: nobody to ask


class CapacityReason(StrEnum):
    SCHEDULED = "Scheduled"  # True: every pod has a node
    WAITING_FOR_NODE = "WaitingForNode"  # True: a pod has none, for less than capacityDeadlineSeconds
    UNSCHEDULABLE = "Unschedulable"  # False: for longer; the reason and the message are the scheduler's
    RELEASED = "Released"  # False: those without a node are not asked for until the next try
    NO_NODE_LARGE_ENOUGH = "NoNodeLargeEnough"  # False: a replica needs more nodes than it can have; none is made


class PolicyReason(StrEnum):
    POLICY_FOUND = "PolicyFound"  # True: a ClusterShiftPolicy applies; the message names it and its modes
    NO_POLICY = "NoPolicy"  # True: none selects the deployment, so the operator's flags apply
    POLICY_REF_MISMATCH = "PolicyRefMismatch"  # False: scaling.policyRef names another one than applies
    POLICIES_HIDDEN = "PoliciesHidden"  # Unknown: the operator cannot see the cluster's policies; the message says why
    NOT_ASKED = "NotAsked"  # Unknown: the decision loop has not looked yet


class ConflictReason(StrEnum):
    NO_CONFLICT = "NoConflict"  # False: no other install would serve the deployment
    OVERLAPPING_INSTALLS = "OverlappingInstalls"  # True: others would, and leave it to this one; the message names all
    INSTALLS_HIDDEN = "InstallsHidden"  # Unknown: the operator cannot see other installs; the message says why


Reason: TypeAlias = (
    AvailableReason
    | ProgressingReason
    | DegradedReason
    | MetricsReason
    | ConfigurationReason
    | CapacityReason
    | PolicyReason
    | ConflictReason
)

# Kubernetes refuses a longer one; ours stay far below save where an engine or the scheduler speaks.
MAX_MESSAGE = 1024


class Condition(ApiType):
    """A condition in the shape of metav1.Condition."""

    type: Annotated[str, Field(max_length=316)]
    """What it is about: one word of a closed list, for programs."""

    status: ConditionStatus
    """True, False or Unknown."""

    reason: Annotated[str, Field(min_length=1, max_length=256)]
    """One word of a closed list, for programs."""

    message: Annotated[str, Field(max_length=32_768)]
    """A sentence for people, with the numbers and names that matter."""

    observed_generation: Annotated[int | None, Field(ge=0)] = None
    """The spec's generation that this condition is about."""

    last_transition_time: Time
    """When `status` last changed."""


def condition(
    type_: StrEnum, status: ConditionStatus, reason: StrEnum, message: str, *, generation: int, now: datetime
) -> Condition:
    """A condition that began now; `kept` gives it the time of an earlier one. Type and reason are of a closed list."""
    return Condition(
        type=type_,
        status=status,
        reason=reason,
        message=message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…",
        observed_generation=generation,
        last_transition_time=to_the_second(now),
    )


def kept(before: Iterable[Condition], conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    """`conditions` with the transition times of `before` where the status is the same. Conditions of a type that is not
    ours stay as they are."""
    known = {c.type: c for c in before}
    result = []
    for c in conditions:
        old = known.pop(c.type, None)
        if old is not None and old.status == c.status:
            c = c.model_copy(update={"last_transition_time": old.last_transition_time})
        result.append(c)
    return (*result, *known.values())
