"""The Events that we write about a ShiftDeployment: one constructor each, their reasons in one list.

Notes carry no ages and no counters, so that the same thing happening again counts one Event up.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from shift_operator.api.conditions import Condition, ConditionStatus, ConditionType, DegradedReason
from shift_operator.api.status import DecisionRecord, ShiftDeploymentStatus
from shift_operator.cluster.errors import ClusterError
from shift_operator.cluster.events import Event, EventType
from shift_operator.planning.difference import Difference
from shift_operator.planning.manifest import Manifest


class EventReason(StrEnum):
    """Closed; it only grows, since people alert on these."""

    THRESHOLD_CHANGED = "ThresholdChanged"  # a decision moved the threshold
    CONFIGURATION_APPLIED = "ConfigurationApplied"  # every ready pod confirmed a new generation of the schedule
    CHILD_REPAIRED = "ChildRepaired"  # someone changed or deleted a child, and it is as wanted again
    ENGINE_FAILED = "EngineFailed"  # a pod's engine ended with a reason of its own
    NAME_TAKEN = "NameTaken"  # an object that is not ours has the name of a child; we leave it alone
    WRITE_REFUSED = "WriteRefused"  # the API server refuses a child: permission, quota or admission


def threshold_changed(record: DecisionRecord) -> Event:
    note = f"threshold {record.from_} -> {record.to}: {record.reason} ({record.message})"
    return Event(EventType.NORMAL, EventReason.THRESHOLD_CHANGED, "Decide", note)


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


def engine_failed(message: str) -> Event:
    return Event(EventType.WARNING, EventReason.ENGINE_FAILED, "Observe", message)


def events_between(before: ShiftDeploymentStatus | None, after: ShiftDeploymentStatus) -> list[Event]:
    """The Events for what is new in a status."""
    told = {(record.time, record.to) for record in before.decisions} if before else set()
    moves = [record for record in after.decisions if record.from_ != record.to]
    found = [threshold_changed(record) for record in moves if (record.time, record.to) not in told]

    is_new_schedule = _wanted_generation(before) != _wanted_generation(after)
    confirmed = _condition(after, ConditionType.CONFIGURATION_APPLIED, ConditionStatus.TRUE)
    confirmed_before = _condition(before, ConditionType.CONFIGURATION_APPLIED, ConditionStatus.TRUE)
    if confirmed and (not confirmed_before or is_new_schedule):
        found.append(configuration_applied(confirmed.message))

    failed = _condition(after, ConditionType.DEGRADED, ConditionStatus.TRUE)
    failed_before = _condition(before, ConditionType.DEGRADED, ConditionStatus.TRUE)
    if (
        failed
        and failed.reason == DegradedReason.ENGINE_FAILED
        and failed.message != (failed_before and failed_before.message)
    ):
        found.append(engine_failed(failed.message))
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


def _some(fields: Sequence[str]) -> str:
    """The first fields by name, so that a note stays a sentence."""
    shown = ", ".join(fields[:3])
    return f"{shown} and {len(fields) - 3} more" if len(fields) > 3 else shown
