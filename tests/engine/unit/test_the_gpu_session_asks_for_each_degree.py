"""The schedule that each phase of the GPU session begins with names the degree that the verdict asks steps of."""

import pytest
from case import BUILT, LIVE, THRESHOLD, Case, first_schedule
from good_session import phases_beside_stock, run_in
from phases import EVERY_OTHER, NEVER
from shift_engine.schedule import Schedule


@pytest.mark.parametrize(("name", "phase"), phases_beside_stock())
def test_steps_run_where_the_phase_says(name: str, phase: str) -> None:
    case = Case.named(name)
    schedule = Schedule.from_document(first_schedule(case, phase, 7))
    small, large = (str(schedule.degree_for(tokens)) for tokens in (THRESHOLD, THRESHOLD + 1))
    asked_for = run_in(case, phase)
    if phase == BUILT:
        assert (small, large) == ("4x1", "4x1")  # until 2x2 is there
    elif phase == LIVE or phase.startswith(EVERY_OTHER):
        assert {small, large} <= set(asked_for)  # what changes it names the others
    else:
        assert {small, large} == set(asked_for)
    assert phase.startswith(NEVER) == (large == f"1x{case.gpus}")
    assert schedule.generation == 7


@pytest.mark.parametrize(
    ("name", "phase", "degree"),
    [
        ("4x2+2x4 graphs bfloat16", "always", "4x2"),
        ("4x2+2x4 graphs bfloat16", "always 2x4, around each capture size", "2x4"),
        ("4x1+2x2 graphs bfloat16", "always 2x2", "2x2"),
        ("8x1 graphs bfloat16 fp8", "always", "8x1"),
    ],
)
def test_an_engine_of_two_degrees_runs_each(name: str, phase: str, degree: str) -> None:
    schedule = Schedule.from_document(first_schedule(Case.named(name), phase, 1))
    assert str(schedule.degree_for(1)) == str(schedule.degree_for(512)) == degree
