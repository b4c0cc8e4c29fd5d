"""The Events that we write about a ShiftDeployment: one constructor each, their reasons in one list.

Notes carry no ages and no counters, so that the same thing happening again counts one Event up.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from shift_operator.api.conditions import (
    CapacityReason,
    Condition,
    ConditionStatus,
    ConditionType,
    DegradedReason,
    ProgressingReason,
)
from shift_operator.api.status import CapacityRelease, DecisionOutcome, DecisionRecord, ShiftDeploymentStatus
from shift_operator.cluster.errors import ClusterError
from shift_operator.cluster.events import Event, EventType
from shift_operator.planning.difference import Difference
from shift_operator.planning.manifest import Manifest
from shift_operator.planning.ownership import WAY_OUT, Install, Ownership


class EventReason(StrEnum):
    """Closed; it only grows, since people alert on these."""

    THRESHOLD_CHANGED = "ThresholdChanged"  # a decision moved the threshold
    DEGREE_CHANGED = "DegreeChanged"  # a decision changed the degree
    REPLICAS_CHANGED = "ReplicasChanged"  # a decision changed the number of replicas
    CONFIGURATION_APPLIED = "ConfigurationApplied"  # every ready pod confirmed a new generation of the schedule
    CHILD_REPAIRED = "ChildRepaired"  # someone changed or deleted a child, and it is as wanted again
    ROLLED_BACK = "RolledBack"  # a rollout exceeded its deadline, and the pods are those of the revision before again
    RELEASED = "Released"  # replicas without a node are not asked for until the next try
    ENGINE_FAILED = "EngineFailed"  # a pod's engine ended with a reason of its own
    POD_FAILED = "PodFailed"  # a pod was refused or ended by its kubelet, and replicas are missing
    NAME_TAKEN = "NameTaken"  # an object that is not ours has the name of a child; we leave it alone
    WRITE_REFUSED = "WriteRefused"  # the API server refuses a child: permission, quota or admission
    SERVED_BY_ANOTHER = "ServedByAnother"  # this install leaves the deployment to another one that watches it too


def knob_turned(record: DecisionRecord) -> Event:
    """A decision that is carried out."""
    limited = f", limited by {record.limit}" if record.limit else ""
    note = f"{record.kind.lower()} {record.from_} -> {record.to}: {record.reason}{limited} ({record.message})"
    return Event(EventType.NORMAL, EventReason(f"{record.kind}Changed"), "Decide", note)


def configuration_applied(message: str) -> Event:
    return Event(EventType.NORMAL, EventReason.CONFIGURATION_APPLIED, "Apply", message)


def child_repaired(child: Manifest, found: Sequence[Difference]) -> Event:
    """`found`: what differed from the child that we had applied before; of the whole object if it was gone."""
    name = f"{child.kind} {child.name}"
    if any(difference.path == "object" for difference in found):
        note = f"{name} had been deleted; created it again"
    else:
        who = sorted({difference.by for difference in found if difference.by})
        fields = [difference.path for difference in found]
        note = f"{name} had been changed by {' and '.join(who) or 'someone'} in {_some(fields)}; applied it again"
    return Event(EventType.WARNING, EventReason.CHILD_REPAIRED, "Repair", note)


def rolled_back(message: str) -> Event:
    return Event(EventType.WARNING, EventReason.ROLLED_BACK, "RollBack", message)


def released(release: CapacityRelease) -> Event:
    note = (
        "replicas that found no node in time are not asked for until the next try, or until GPUs are free; "
        f"{release.message}"
    )
    return Event(EventType.WARNING, EventReason.RELEASED, "Release", note)


def pod_failed(reason: DegradedReason, message: str) -> Event:
    """Of an engine that ended, or a pod that its kubelet refused or ended."""
    return Event(EventType.WARNING, EventReason(reason), "Observe", message)


def events_between(before: ShiftDeploymentStatus | None, after: ShiftDeploymentStatus) -> list[Event]:
    """The Events for what is new in a status."""
    told = {(record.time, record.kind, record.to) for record in before.decisions} if before else set()
    carried_out = (DecisionOutcome.PENDING, DecisionOutcome.APPLIED)
    moves = [record for record in after.decisions if record.outcome in carried_out]
    found = [knob_turned(record) for record in moves if (record.time, record.kind, record.to) not in told]

    is_new_schedule = _wanted_generation(before) != _wanted_generation(after)
    confirmed = _condition(after, ConditionType.CONFIGURATION_APPLIED, ConditionStatus.TRUE)
    confirmed_before = _condition(before, ConditionType.CONFIGURATION_APPLIED, ConditionStatus.TRUE)
    if confirmed and (not confirmed_before or is_new_schedule):
        found.append(configuration_applied(confirmed.message))

    stuck = _condition(after, ConditionType.PROGRESSING, ConditionStatus.FALSE)
    stuck_before = _condition(before, ConditionType.PROGRESSING, ConditionStatus.FALSE)
    if (
        stuck
        and stuck.reason == ProgressingReason.ROLLED_BACK
        and stuck.message != (stuck_before and stuck_before.message)
    ):
        found.append(rolled_back(stuck.message))

    waits = _condition(after, ConditionType.CAPACITY_AVAILABLE, ConditionStatus.FALSE)
    if waits and waits.reason == CapacityReason.RELEASED and after.release is not None:
        tried_before = before.release.tries if before and before.release else 0
        if after.release.tries != tried_before:
            found.append(released(after.release))

    failed = _condition(after, ConditionType.DEGRADED, ConditionStatus.TRUE)
    failed_before = _condition(before, ConditionType.DEGRADED, ConditionStatus.TRUE)
    if (
        failed
        and failed.reason in (DegradedReason.ENGINE_FAILED, DegradedReason.POD_FAILED)
        and failed.message != (failed_before and failed_before.message)
    ):
        found.append(pod_failed(DegradedReason(failed.reason), failed.message))
    return found


def _wanted_generation(status: ShiftDeploymentStatus | None) -> int:
    """Of the schedule; 0 where none was wanted yet."""
    return status.shift.desired.generation if status and status.shift else 0


def _condition(status: ShiftDeploymentStatus | None, type_: ConditionType, is_: ConditionStatus) -> Condition | None:
    """The condition if it has this status."""
    condition = status.condition(type_) if status else None
    return condition if condition and condition.status is is_ else None


def name_taken(message: str) -> Event:
    return Event(EventType.WARNING, EventReason.NAME_TAKEN, "Apply", message)


def write_refused(error: ClusterError) -> Event:
    return Event(EventType.WARNING, EventReason.WRITE_REFUSED, "Apply", str(error))


def served_by_another(serving: Ownership, owner: Install) -> Event:
    """`owner` serves it instead of us."""
    note = f"{serving.us} would serve it too and leaves it to {owner.name}, {serving.why}; {WAY_OUT}"
    return Event(EventType.WARNING, EventReason.SERVED_BY_ANOTHER, "Observe", note)


def _some(fields: Sequence[str]) -> str:
    """The first fields by name, so that a note stays a sentence."""
    shown = ", ".join(fields[:3])
    return f"{shown} and {len(fields) - 3} more" if len(fields) > 3 else shown
