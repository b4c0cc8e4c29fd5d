"""docs/contract.md section 2: what a schedule file may say, and the sentence for what it may not."""

import json
from typing import Any

import pytest
from shift_engine.degree import Degree, DegreeReport, DegreeState
from shift_engine.schedule import (
    MAX_BYTES,
    Schedule,
    ScheduleError,
    ScheduleFault,
    ScheduleRules,
    TokenRange,
    read_schedule,
)

LARGE = Degree(2, 1)


def rules(*reports: DegreeReport, started_with: tuple[Degree, ...] = (LARGE,), generation: int = 0) -> ScheduleRules:
    loaded = (DegreeReport(Degree(1, 2), DegreeState.LOADED), DegreeReport(LARGE, DegreeState.LOADED))
    return ScheduleRules({each.degree: each for each in reports or loaded}, started_with, 2048, generation)


RULES = rules()
TENSOR = {"sequence": 1, "tensor": 2}
SEQUENCE = {"sequence": 2, "tensor": 1}
GOOD: dict[str, Any] = {"generation": 14, "ranges": [{"upToTokens": 512, **TENSOR}, SEQUENCE]}


def test_the_contracts_example_is_read() -> None:
    schedule = read_schedule(json.dumps(GOOD), RULES)
    assert schedule == Schedule(14, (TokenRange(512, Degree(1, 2)), TokenRange(None, LARGE)))
    assert schedule.to_document() == GOOD


@pytest.mark.parametrize(
    ("change", "fault", "said"),
    [
        ({"generation": 0}, ScheduleFault.SYNTAX, "generation: must be a whole number from 1 on, not 0"),
        ({"generation": True}, ScheduleFault.SYNTAX, "generation: must be a whole number"),
        ({"generation": 1.0}, ScheduleFault.SYNTAX, "not 1.0"),
        ({"ranges": {}}, ScheduleFault.SYNTAX, "ranges: must be a list"),
        ({"mode": "auto"}, ScheduleFault.SYNTAX, "the file: unknown key mode; known are generation, ranges"),
        ({"ranges": [{"upTo": 3, **TENSOR}]}, ScheduleFault.SYNTAX, "ranges[0]: unknown key upTo"),
        ({"ranges": [{"sequence": 2}]}, ScheduleFault.SYNTAX, "ranges[0]: lacks tensor"),
        ({"ranges": [[]]}, ScheduleFault.SYNTAX, "ranges[0]: must be an object"),
        ({"ranges": [{"upToTokens": None, **TENSOR}]}, ScheduleFault.SYNTAX, "ranges[0].upToTokens: must be a whole"),
        ({"ranges": []}, ScheduleFault.RANGES, "ranges: 0 of them; give 1 to 8"),
        (
            {"ranges": [{"upToTokens": i, **TENSOR} for i in range(1, 9)] + [SEQUENCE]},
            ScheduleFault.RANGES,
            "9 of them",
        ),
        ({"ranges": [{"upToTokens": 512, **TENSOR}]}, ScheduleFault.RANGES, "leave out its upToTokens"),
        ({"ranges": [TENSOR, SEQUENCE]}, ScheduleFault.RANGES, "ranges[0].upToTokens: only the last may lack it"),
        (
            {"ranges": [{"upToTokens": 9, **TENSOR}, {"upToTokens": 9, **SEQUENCE}, TENSOR]},
            ScheduleFault.RANGES,
            "ranges[1].upToTokens: 9 is not above 9",
        ),
        (
            {"ranges": [{"upToTokens": 2048, **TENSOR}, SEQUENCE]},
            ScheduleFault.RANGES,
            "ranges[0].upToTokens: 2048 is not below max_num_batched_tokens 2048, so no step would run at the ranges",
        ),
        (
            {"ranges": [{"upToTokens": 9, **TENSOR}, {"upToTokens": 4000, **SEQUENCE}, TENSOR]},
            ScheduleFault.RANGES,
            "ranges[1].upToTokens: 4000 is not below",
        ),
        (
            {"ranges": [{"sequence": 4, "tensor": 1}]},
            ScheduleFault.DEGREE,
            "ranges[0]: degree 4x1 takes 4 GPUs, this engine has 2; name one of 1x2, 2x1",
        ),
    ],
)
def test_anything_else_is_refused_with_field_and_rule(change: dict[str, Any], fault: ScheduleFault, said: str) -> None:
    with pytest.raises(ScheduleError) as refused:
        read_schedule(json.dumps(GOOD | change), RULES)
    assert refused.value.fault is fault
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"generation": NaN}', b"[" * 5000, b" " * (MAX_BYTES + 1)),
        b'{"generation": 1, "generation": 2, "ranges": []}',
    ],
)
def test_no_json_is_a_syntax_fault_and_never_another_exception(text: bytes) -> None:
    with pytest.raises(ScheduleError) as refused:
        read_schedule(text, RULES)
    assert refused.value.fault is ScheduleFault.SYNTAX


def test_a_step_runs_at_the_first_range_that_holds_its_tokens() -> None:
    schedule = read_schedule(json.dumps(GOOD), RULES)
    assert [str(schedule.degree_for(n)) for n in (1, 512, 513, 10**6)] == ["1x2", "1x2", "2x1", "2x1"]


@pytest.mark.parametrize(
    ("ranges", "threshold"),
    [
        ([{"upToTokens": 512, **TENSOR}, SEQUENCE], 512),
        ([{"upToTokens": 2047, **TENSOR}, SEQUENCE], 2047),
        ([TENSOR], 2048),
        ([SEQUENCE], 0),
    ],
)
def test_the_threshold_as_the_metric_reports_it(ranges: list[dict[str, int]], threshold: int) -> None:
    assert read_schedule(json.dumps(GOOD | {"ranges": ranges}), RULES).threshold(2048) == threshold


def test_the_start_up_schedule_is_the_papers_rule() -> None:
    assert Schedule.two_ranges(512, LARGE).to_document()["ranges"] == GOOD["ranges"]
    assert Schedule.two_ranges(0, LARGE).ranges == (TokenRange(None, LARGE),)
    assert Schedule.two_ranges(512, Degree(1, 2)).ranges == (TokenRange(None, Degree(1, 2)),)


@pytest.mark.parametrize("text", ["2", "2x", "0x2", "2x-1", "2X1", " 2x1", "2x1x1"])
def test_no_degree_is_said_to_be_none(text: str) -> None:
    with pytest.raises(ValueError, match="is no degree; write SEQUENCExTENSOR"):
        Degree.parse(text)


ALONE, HALVES, FULL = Degree(4, 1), Degree(2, 2), Degree(1, 4)


@pytest.mark.parametrize(
    ("state", "fault", "said"),
    [
        (DegreeState.LOADED, None, ""),
        (DegreeState.BUILDABLE, None, ""),
        (
            DegreeState.NEEDS_RESTART,
            ScheduleFault.NEEDS_RESTART,
            "ranges[0]: degree 2x2 needs a restart with --shift-degree 2x2 (no room); or name one of 1x4, 4x1",
        ),
        (DegreeState.UNSUPPORTED, ScheduleFault.DEGREE, "ranges[0]: degree 2x2: no room; name one of 1x4, 4x1"),
    ],
)
def test_what_a_schedule_may_name_follows_the_degrees_state(
    state: DegreeState, fault: ScheduleFault | None, said: str
) -> None:
    loaded = (DegreeReport(FULL, DegreeState.LOADED), DegreeReport(ALONE, DegreeState.LOADED))
    with_it = rules(*loaded, DegreeReport(HALVES, state, "no room" if fault else None), started_with=(ALONE,))
    text = json.dumps({"generation": 1, "ranges": [{"sequence": 2, "tensor": 2}]})
    if fault is None:
        assert read_schedule(text, with_it).degrees == {HALVES}
    else:
        with pytest.raises(ScheduleError) as refused:
            read_schedule(text, with_it)
        assert (refused.value.fault, str(refused.value)) == (fault, said)


def test_a_degree_of_the_flags_stays_valid_where_it_could_not_be_loaded() -> None:
    """A rollout would not help: its steps run 1 x P and are counted as fallbacks."""
    without = rules(
        DegreeReport(Degree(1, 2), DegreeState.LOADED), DegreeReport(LARGE, DegreeState.UNSUPPORTED, "LoRA")
    )
    assert read_schedule(json.dumps(GOOD), without).degrees == {Degree(1, 2), LARGE}


@pytest.mark.parametrize("running", [13, 14])
def test_a_generation_not_below_the_running_one_is_taken(running: int) -> None:
    assert read_schedule(json.dumps(GOOD), rules(generation=running)).generation == 14


def test_an_older_generation_is_refused() -> None:
    with pytest.raises(ScheduleError) as refused:
        read_schedule(json.dumps(GOOD), rules(generation=15))
    assert refused.value.fault is ScheduleFault.GENERATION
    assert "generation: 14 is older than 15, which runs" in str(refused.value)


def test_what_travels_to_the_ranks_comes_back_the_same() -> None:
    schedule = read_schedule(json.dumps(GOOD), RULES)
    assert Schedule.from_document(json.loads(json.dumps(schedule.to_document()))) == schedule
