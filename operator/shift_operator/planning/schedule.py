"""Which schedule the engines should run, and how it travels: one ConfigMap, numbered by its generation."""

from collections.abc import Mapping
from typing import Any

from shift_operator.api.schedule import SCHEDULE_KEY, Degree, Range, Schedule
from shift_operator.api.shift import ShiftMode
from shift_operator.api.shiftdeployment import ShiftDeployment, ShiftDeploymentSpec
from shift_operator.api.status import ShiftDeploymentStatus
from shift_operator.planning.manifest import Manifest, child
from shift_operator.planning.names import schedule_name


def next_schedule(spec: ShiftDeploymentSpec, previous: Schedule | None, threshold: int | None = None) -> Schedule:
    """The schedule for this spec; its generation is the previous one's unless the ranges differ.

    `threshold`: what the decision loop asks for in mode Auto. None where it has not decided anything: the previous
    threshold stays, and a deployment that never had one starts at the spec's. Other modes do not look at it. It is
    clamped to the spec's range, which the user may have narrowed since the decision.
    """
    ranges = _ranges(spec, previous, threshold)
    if previous is None:
        return Schedule(generation=1, ranges=ranges)
    if previous.ranges == ranges:
        return previous
    return Schedule(generation=previous.generation + 1, ranges=ranges)


def previous_schedule(config_map: Mapping[str, Any] | None, status: ShiftDeploymentStatus | None) -> Schedule | None:
    """The schedule that was wanted last, from its two records.

    Either may be missing (a ConfigMap deleted by hand) or lag behind the other (a crash, a cache). The higher
    generation is the later one; of equal ones the status counts: a hand that edits the ConfigMap need not raise it.
    """
    in_file = Schedule.from_config_map(config_map)
    in_status = status.schedule if status else None
    if in_file is None or in_status is None:
        return in_file or in_status
    return in_file if in_file.generation > in_status.generation else in_status


def schedule_config_map(deployment: ShiftDeployment, schedule: Schedule) -> Manifest:
    """The ConfigMap that every engine of the deployment watches."""
    return child(
        deployment, "v1", "ConfigMap", schedule_name(deployment.name), {"data": {SCHEDULE_KEY: schedule.to_json()}}
    )


def _ranges(spec: ShiftDeploymentSpec, previous: Schedule | None, threshold: int | None) -> tuple[Range, ...]:
    large = spec.parallelism.degree
    small = Degree(sequence=1, tensor=spec.parallelism.gpus_per_replica)
    if spec.shift.mode is ShiftMode.TENSOR_ONLY or large.is_tensor_only:
        return (Range.of(small),)
    if spec.shift.mode is ShiftMode.SEQUENCE_ONLY:
        return (Range.of(large),)
    return (Range.of(small, up_to_tokens=_threshold(spec, previous, threshold)), Range.of(large))


def _threshold(spec: ShiftDeploymentSpec, previous: Schedule | None, threshold: int | None) -> int:
    shift = spec.shift
    wanted = shift.threshold_tokens
    if shift.mode is ShiftMode.AUTO:
        before = previous.threshold_tokens if previous else None
        wanted = threshold or before or wanted
    return min(max(wanted, shift.threshold_range.min), shift.threshold_range.max)
