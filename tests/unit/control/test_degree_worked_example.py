"""The degree law at its plainest: the numbers of its docstring, and one case per reason."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from shift_operator.api.schedule import Degree
from shift_operator.api.signals import SOURCES, CurvePoint, Known, Signals, SizeBucket, Unknown, UnknownWhy
from shift_operator.control.degree import (
    REASONS_OF_UNKNOWN,
    CurvePoints,
    DegreeBounds,
    DegreeDecision,
    DegreeLaw,
    DegreeState,
    KvMemory,
    decide_degree,
)
from shift_operator.control.reasons import DegreeLimit, DegreeReason

NOW = 1_800_000_000.0
TP, SP8, SP4 = Degree(sequence=1, tensor=8), Degree(sequence=8, tensor=1), Degree(sequence=4, tensor=2)
BOUNDS = DegreeBounds((SP8, SP4), threshold_minimum=1, threshold_maximum=1024)
ROOM = KvMemory(needed=50_000, capacity={SP8: 100_000, SP4: 150_000})
PROFILE: CurvePoints = {
    TP: (CurvePoint(1, 0.01), CurvePoint(8192, 0.5)),
    SP8: (CurvePoint(1, 0.008 + 5e-6), CurvePoint(8192, 0.008 + 5e-6 * 8192)),
    SP4: (CurvePoint(1, 0.010 + 3e-6), CurvePoint(8192, 0.010 + 3e-6 * 8192)),
}


@pytest.fixture
def signals(signals_of: Callable[..., Signals]) -> Signals:
    """1,000 steps of 2,048 tokens; the engine measures none of the degrees, so that the profile's curves count."""
    seen = signals_of([SizeBucket(2047, 2048, 1000)], lambda n: 0.01, lambda n: 0.01, max_batched_tokens=8192)
    assert isinstance(seen.step_time, Known)
    return replace(seen, step_time=replace(seen.step_time, value={}))


def decide(
    signals: Signals,
    state: DegreeState,
    *,
    now: float = NOW,
    kv: KvMemory = ROOM,
    may_change: bool = True,
    bounds: DegreeBounds = BOUNDS,
    profile: CurvePoints = PROFILE,
    before: Degree = SP8,
    law: DegreeLaw | None = None,
) -> tuple[DegreeDecision, DegreeState]:
    return decide_degree(
        before, at(signals, now), bounds, kv, state,
        profile_curves=profile, ready_pods=1, may_change=may_change, now=now, law=law,
    )  # fmt: skip


def at(signals: Signals, now: float) -> Signals:
    return replace(signals, **{n: replace(s, at=now) for n, s in signals if isinstance(s, Known)})


def test_the_example_moves_after_thirty_minutes_of_gain(signals: Signals) -> None:
    state = DegreeState()
    for seconds in range(0, 1800, 60):
        decision, state = decide(signals, state, now=NOW + seconds)
        assert (decision.after, decision.reason, decision.limit) == (8, DegreeReason.GAIN_TOO_YOUNG, DegreeLimit.DWELL)
    decision, state = decide(signals, state, now=NOW + 1800)
    assert (decision.before, decision.wanted, decision.after) == (8, 4, 4)
    assert decision.reason is DegreeReason.LESS_STEP_TIME
    assert "16.14 ms at 4x2, 18.24 ms at 8x1" in str(decision)
    assert "gain 11.5 % at 4x2" in str(decision)
    assert state.better_since == ()


def test_one_look_without_the_gain_begins_the_waiting_anew(signals: Signals) -> None:
    _, state = decide(signals, DegreeState())
    worse = {**PROFILE, SP4: PROFILE[SP8]}
    decision, state = decide(signals, state, now=NOW + 60, profile=worse)
    assert decision.reason is DegreeReason.BEST_ALREADY
    for seconds in range(120, 1920, 60):
        decision, state = decide(signals, state, now=NOW + seconds)
        assert not decision.moves


def test_a_long_gap_between_looks_begins_the_waiting_anew(signals: Signals) -> None:
    _, state = decide(signals, DegreeState())
    decision, _ = decide(signals, state, now=NOW + 1800)
    assert decision.reason is DegreeReason.GAIN_TOO_YOUNG


RIPE = DegreeState(((SP4, NOW - 1800),), NOW - 15)


def test_a_ripe_gain_moves(signals: Signals) -> None:
    assert decide(signals, RIPE)[0].after == 4


def test_only_one_deployment_of_the_cluster_changes_at_a_time(signals: Signals) -> None:
    decision, state = decide(signals, RIPE, may_change=False)
    assert (decision.moves, decision.reason) == (False, DegreeReason.ANOTHER_CHANGES)
    assert decide(signals, state, now=NOW + 15)[0].moves, "and keeps its age while it waits for its turn"


@pytest.mark.parametrize(
    "kv",
    [
        KvMemory(needed=50_000, capacity={SP4: 62_000}),
        KvMemory(needed=None, capacity={SP4: 1e9}),
        KvMemory(needed=50_000, capacity={}),
    ],
)
def test_a_degree_that_is_not_known_to_hold_the_kv_cache_is_not_taken(signals: Signals, kv: KvMemory) -> None:
    decision, state = decide(signals, RIPE, kv=kv)
    assert (decision.moves, decision.reason) == (False, DegreeReason.KV_CACHE_TOO_SMALL)
    assert state.better_since == ()


def test_a_gain_below_what_a_rollout_is_worth_stays(signals: Signals) -> None:
    decision, _ = decide(signals, RIPE, law=DegreeLaw(min_gain_percent=12))
    assert decision.reason is DegreeReason.GAIN_TOO_SMALL


def test_where_every_step_runs_at_the_degree_those_of_one_token_count_too(signals: Signals) -> None:
    """SequenceOnly: what tensor parallelism would take for them is no matter."""
    signals = replace(signals, step_sizes=replace(signals.step_sizes, value=(SizeBucket(0, 1, 1000),)))
    bounds = DegreeBounds((SP8, SP4), threshold_minimum=0, threshold_maximum=0)
    fast = {**PROFILE, TP: (CurvePoint(1, 1e-6), CurvePoint(8192, 1e-6))}
    ripe, kv = DegreeState(((SP8, NOW - 1800),), NOW - 15), KvMemory(1, {SP8: 100_000})
    decision, _ = decide(signals, ripe, bounds=bounds, profile=fast, before=SP4, kv=kv)
    assert decision.after == 8
    assert "gain 20.0 % at 8x1" in str(decision)


def test_a_degree_that_is_no_candidate_stays_where_none_is_better(signals: Signals) -> None:
    decision, _ = decide(signals, RIPE, bounds=replace(BOUNDS, candidates=(SP8,)), before=SP4)
    assert (decision.after, decision.reason) == (4, DegreeReason.NOT_A_CANDIDATE)


def test_a_candidate_of_another_number_of_gpus_is_never_taken(signals: Signals) -> None:
    four = Degree(sequence=4, tensor=1)
    bounds = replace(BOUNDS, candidates=(SP8, four))
    fast = {**PROFILE, four: (CurvePoint(1, 1e-6), CurvePoint(8192, 1e-6))}
    kv = KvMemory(1.0, {four: 1e9})
    state = DegreeState(((four, NOW - 9999),), NOW - 15)
    assert not decide(signals, state, bounds=bounds, profile=fast, kv=kv)[0].moves


@pytest.mark.parametrize("name", ["step_sizes", "step_time", "max_batched_tokens", "pods_reporting"])
@pytest.mark.parametrize("why", UnknownWhy)
def test_any_needed_signal_that_is_unknown_holds_and_is_named(signals: Signals, name: str, why: UnknownWhy) -> None:
    missing = replace(signals, **{name: Unknown(why, SOURCES[name])})
    decision, state = decide(missing, RIPE)
    assert (decision.moves, decision.wanted, decision.reason) == (False, None, REASONS_OF_UNKNOWN[why])
    assert SOURCES[name] in str(decision)
    assert state.better_since == RIPE.better_since, "a short gap does not undo thirty minutes"


def test_no_curve_of_the_present_degree_holds(signals: Signals) -> None:
    decision, _ = decide(signals, RIPE, profile={TP: PROFILE[TP], SP4: PROFILE[SP4]})
    assert (decision.moves, decision.reason) == (False, DegreeReason.SIGNALS_PARTIAL)


def test_too_few_steps_hold(signals: Signals) -> None:
    assert isinstance(signals.step_sizes, Known)
    few = replace(signals, step_sizes=replace(signals.step_sizes, value=(SizeBucket(2047, 2048, 99),)))
    assert decide(few, RIPE)[0].reason is DegreeReason.TOO_FEW_STEPS
