"""The schedule's generation: raised with every change of its ranges, and by nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shift_operator.api.schedule import Degree, Schedule
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.api.status import ShiftDeploymentStatus
from shift_operator.planning.schedule import next_schedule, previous_schedule, schedules_in

Build = Callable[..., ShiftDeployment]


def test_a_new_threshold_raises_it_and_the_same_one_does_not(a_deployment: Build) -> None:
    spec = a_deployment().spec
    first = next_schedule(spec, None)
    assert (first.generation, first.threshold_tokens) == (1, 256)
    assert next_schedule(spec, first, 256) is first
    second = next_schedule(spec, first, 512)
    assert (second.generation, second.threshold_tokens) == (2, 512)


@pytest.mark.parametrize(
    ("known", "running", "generation"), [(False, 0, 1), (False, 9, 10), (True, 9, 10), (True, 1, 1)]
)
def test_it_goes_on_from_the_engines_where_they_are_ahead(
    a_deployment: Build, known: bool, running: int, generation: int
) -> None:
    """Both records lost, or restored from a backup: an engine refuses what is older than what it runs."""
    spec = a_deployment().spec
    previous = next_schedule(spec, None) if known else None
    after = next_schedule(spec, previous, running=running)
    assert after.generation == generation
    assert next_schedule(spec, after, running=generation) is after


def test_without_a_decision_mode_auto_keeps_the_last_threshold(a_deployment: Build) -> None:
    spec = a_deployment().spec
    decided = next_schedule(spec, None, 700)
    assert next_schedule(spec, decided) is decided
    assert next_schedule(a_deployment(shift={"thresholdTokens": 300}).spec, decided) is decided


def test_mode_fixed_has_the_specs_threshold_whatever_was_decided(a_deployment: Build) -> None:
    spec = a_deployment(shift={"mode": "Fixed"}).spec
    assert next_schedule(spec, None, 700).threshold_tokens == 256
    assert next_schedule(spec, next_schedule(a_deployment().spec, None, 700)).threshold_tokens == 256


@pytest.mark.parametrize(("wanted", "runs"), [(1, 16), (16, 16), (1024, 1024), (5000, 1024)])
def test_a_decision_from_before_a_narrower_range_is_clamped(a_deployment: Build, wanted: int, runs: int) -> None:
    assert next_schedule(a_deployment().spec, None, wanted).threshold_tokens == runs


@pytest.mark.parametrize(("mode", "degree"), [("TensorOnly", "1x2"), ("SequenceOnly", "2x1")])
def test_a_mode_without_threshold_has_one_range(a_deployment: Build, mode: str, degree: str) -> None:
    schedule = next_schedule(a_deployment(shift={"mode": mode}).spec, None)
    assert [str(r.degree) for r in schedule.ranges] == [degree]
    assert schedule.threshold_tokens is None


def test_pods_gone_back_to_get_a_schedule_of_their_degree(a_deployment: Build) -> None:
    spec = a_deployment(parallelism={"gpusPerReplica": 2, "degree": {"sequence": 1, "tensor": 2}}).spec
    failed = next_schedule(spec, next_schedule(a_deployment().spec, None))
    assert [str(r.degree) for r in failed.ranges] == ["1x2"]
    back = next_schedule(spec, failed, 700, Degree(sequence=2, tensor=1))
    assert [str(r.degree) for r in back.ranges] == ["1x2", "2x1"]
    assert (back.generation, back.threshold_tokens) == (3, 700)


def test_back_in_auto_it_starts_at_the_specs_threshold(a_deployment: Build) -> None:
    paused = next_schedule(
        a_deployment(shift={"mode": "TensorOnly"}).spec, next_schedule(a_deployment().spec, None, 700)
    )
    assert next_schedule(a_deployment().spec, paused).threshold_tokens == 256


@given(st.lists(st.none() | st.integers(1, 2000), max_size=20))
def test_it_counts_the_changes(a_deployment: Build, decisions: list[int | None]) -> None:
    spec, schedule, changes = a_deployment().spec, next_schedule(a_deployment().spec, None), 0
    for decision in decisions:
        after = next_schedule(spec, schedule, decision)
        changes += after.ranges != schedule.ranges
        schedule = after
    assert schedule.generation == 1 + changes


def recorded(a_deployment: Build, in_file: int | None, in_status: int | None, threshold: int = 99) -> Schedule | None:
    def at(generation: int, bound: int) -> Schedule:
        ranges = next_schedule(a_deployment().spec, None, bound).ranges
        return Schedule(generation=generation, ranges=ranges)

    config_map = {"data": {"schedule.json": at(in_file, threshold).to_json()}} if in_file else None
    return previous_schedule(config_map, ShiftDeploymentStatus(schedule=at(in_status, 64)) if in_status else None)


@pytest.mark.parametrize(
    ("in_file", "in_status", "generation", "threshold"),
    [
        (7, 7, 7, 64),  # someone edited the ConfigMap: the status knows better
        (8, 7, 8, 99),  # written, but the status was not yet
        (7, 8, 8, 64),  # the cache lags behind our own write
        (None, 8, 8, 64),  # the ConfigMap was deleted: it comes back with the same generation
        (7, None, 7, 99),  # the status was cleared
    ],
)
def test_the_later_record_counts(
    a_deployment: Build, in_file: int | None, in_status: int | None, generation: int, threshold: int
) -> None:
    schedule = recorded(a_deployment, in_file, in_status)
    assert schedule is not None
    assert (schedule.generation, schedule.threshold_tokens) == (generation, threshold)


def test_a_new_deployment_has_no_record(a_deployment: Build) -> None:
    assert recorded(a_deployment, None, None) is None


@pytest.mark.parametrize("text", ["", "{", '{"generation": 1}'])
def test_a_broken_config_map_counts_as_none(a_deployment: Build, text: str) -> None:
    broken: dict[str, Any] = {"data": {"schedule.json": text}}
    status = ShiftDeploymentStatus(schedule=next_schedule(a_deployment().spec, None))
    assert previous_schedule(broken, status) == status.schedule


@pytest.mark.parametrize("config_map", [None, {}, {"data": None}, {"data": {}}])
def test_a_config_map_without_files_holds_no_schedule(config_map: dict[str, dict[str, str]] | None) -> None:
    assert schedules_in(config_map) == {}
