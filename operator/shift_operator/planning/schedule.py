"""Which schedule the engines should run, and how it is numbered: by its generation."""

from collections.abc import Mapping
from typing import Any

from shift_operator.api.schedule import SCHEDULE_KEY, Degree, Range, Schedule
from shift_operator.api.shift import ShiftMode
from shift_operator.api.shiftdeployment import ShiftDeploymentSpec
from shift_operator.api.status import ShiftDeploymentStatus


def next_schedule(
    spec: ShiftDeploymentSpec,
    previous: Schedule | None,
    threshold: int | None = None,
    degree: Degree | None = None,
    running: int = 0,
) -> Schedule:
    """The schedule for this spec; its generation is the previous one's unless the ranges differ.

    `threshold`: what the decision loop asks for in mode Auto. None where it has not decided anything: the previous
    threshold stays, and a deployment that never had one starts at the spec's. Other modes do not look at it. It is
    clamped to the spec's range, which the user may have narrowed since the decision. `degree`: of the pods that run in
    place of the spec's, after a rollout that was given up; an engine refuses a schedule with a degree that it lacks.
    `running`: the highest generation that an engine runs. It refuses an older one, so ours goes on from there where our
    records were lost (docs/decisions/0009).
    """
    ranges = _ranges(spec, previous, threshold, degree or spec.parallelism.degree)
    if previous is None:
        return Schedule(generation=running + 1, ranges=ranges)
    if previous.ranges == ranges and previous.generation >= running:
        return previous
    return Schedule(generation=max(previous.generation, running) + 1, ranges=ranges)


def previous_schedule(
    config_map: Mapping[str, Any] | None, status: ShiftDeploymentStatus | None, file: str = SCHEDULE_KEY
) -> Schedule | None:
    """The schedule that was wanted last, from its two records.

    Either may be missing (a ConfigMap deleted by hand) or lag behind the other (a crash, a cache). The higher
    generation is the later one; of equal ones the status counts: a hand that edits the ConfigMap need not raise it.
    Of several files in the ConfigMap `file` counts, or else any: they are numbered together.
    """
    in_files = schedules_in(config_map)
    in_file = in_files.get(file) or next(iter(in_files.values()), None)
    in_status = status.schedule if status else None
    if in_file is None or in_status is None:
        return in_file or in_status
    return in_file if in_file.generation > in_status.generation else in_status


def schedules_in(config_map: Mapping[str, Any] | None) -> dict[str, Schedule]:
    """The schedules in a live ConfigMap by their files, without those that someone broke: they are written anew."""
    data = (config_map or {}).get("data") or {}
    found = {name: Schedule.from_json(text) for name, text in data.items()}
    return {name: schedule for name, schedule in found.items() if schedule is not None}


def _ranges(
    spec: ShiftDeploymentSpec, previous: Schedule | None, threshold: int | None, large: Degree
) -> tuple[Range, ...]:
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
