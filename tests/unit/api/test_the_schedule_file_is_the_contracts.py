"""The schedule's text is what docs/contract.md, section 2, says; whatever else is in a ConfigMap is no schedule."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from shift_operator.api.schedule import Degree, Range, Schedule

CONTRACT = '{"generation":14,"ranges":[{"upToTokens":512,"sequence":1,"tensor":2},{"sequence":2,"tensor":1}]}'

degrees = st.builds(Degree, sequence=st.integers(1, 8), tensor=st.integers(1, 8))


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    bounds = sorted(draw(st.sets(st.integers(1, 131072), max_size=7)))
    ranges = [Range.of(draw(degrees), up_to_tokens=bound) for bound in bounds]
    return Schedule(generation=draw(st.integers(1, 10**9)), ranges=(*ranges, Range.of(draw(degrees))))


def test_the_contracts_example() -> None:
    schedule = Schedule(
        generation=14,
        ranges=(Range.of(Degree(sequence=1, tensor=2), 512), Range.of(Degree(sequence=2, tensor=1))),
    )
    assert schedule.to_json() == CONTRACT
    assert schedule.threshold_tokens == 512
    assert str(schedule.degree_of(512)) == "1x2"
    assert str(schedule.degree_of(513)) == "2x1"


@given(schedules())
def test_what_is_written_is_read_back(schedule: Schedule) -> None:
    assert Schedule.from_json(schedule.to_json()) == schedule
    assert "null" not in schedule.to_json()


@given(schedules(), st.integers(1, 200_000))
def test_a_step_runs_at_the_first_range_that_takes_it(schedule: Schedule, tokens: int) -> None:
    taking = [r for r in schedule.ranges if r.up_to_tokens is None or tokens <= r.up_to_tokens]
    assert schedule.degree_of(tokens) == taking[0].degree


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"generation":1,"ranges":[]}',
        '{"generation":0,"ranges":[{"sequence":2,"tensor":1}]}',
        '{"generation":1,"ranges":[{"upToTokens":4,"sequence":2,"tensor":1}]}',
        '{"generation":1,"ranges":[{"sequence":2,"tensor":1},{"sequence":1,"tensor":2}]}',
        json.dumps({"generation": 1, "ranges": [{"upToTokens": n, "sequence": 1, "tensor": 1} for n in (8, 4)]}),
    ],
)
def test_a_broken_file_holds_no_schedule(text: str) -> None:
    assert Schedule.from_json(text) is None


def test_unordered_ranges_are_named() -> None:
    with pytest.raises(ValidationError, match=r"upToTokens must ascend, they are \[8, 4\]"):
        Schedule(
            generation=1,
            ranges=(
                Range(up_to_tokens=8, sequence=1, tensor=1),
                Range(up_to_tokens=4, sequence=1, tensor=1),
                Range(sequence=1, tensor=1),
            ),
        )
