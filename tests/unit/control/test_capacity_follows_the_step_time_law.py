"""What one replica takes: worked numbers, and what holds for any model, mix and SLO."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shift_operator.control.performance import (
    KV_SHARE,
    SATURATION_SHARE,
    CapacityBound,
    Mix,
    PerfModel,
    Slo,
    capacity,
    corrected,
    predicted_tpot,
)

from tests.unit.control.replica_cases import a_model, curve

MIX = Mix.of(1000, 200, 0.0)


def test_a_replica_bound_by_its_kv_cache_holds_that_many_contexts() -> None:
    """Contexts of 1100 tokens on average; 90 % of 110,000 tokens hold 90 of them; 10 ms a step, 200 steps each."""
    flat = curve(0.01, 0.0)
    can = capacity(a_model(small=flat, large=flat, kv_capacity_tokens=110_000.0), MIX, Slo())
    saturated = KV_SHARE * 110_000 / 1100 / (200 * 0.01)
    assert can.requests_per_second == pytest.approx(SATURATION_SHARE * saturated)
    assert can.bound is CapacityBound.KV_CACHE


def test_a_tighter_tpot_bounds_the_step() -> None:
    can = capacity(a_model(), MIX, Slo(tpot_seconds=0.02))
    assert can.bound is CapacityBound.TPOT
    assert can.tpot_seconds <= 0.02


def test_an_slo_that_no_load_keeps_is_told_apart() -> None:
    assert capacity(a_model(), MIX, Slo(tpot_seconds=0.001)).bound is CapacityBound.SLO_UNREACHABLE
    assert capacity(a_model(), MIX, Slo(ttft_seconds=0.001)).bound is CapacityBound.SLO_UNREACHABLE


def test_prompts_from_the_prefix_cache_leave_room_for_more() -> None:
    wide = a_model(max_sequences=10_000, kv_capacity_tokens=1e9)
    cached = capacity(wide, Mix.of(1000, 200, 0.9), Slo()).requests_per_second
    assert cached > 2 * capacity(wide, MIX, Slo()).requests_per_second


models = st.builds(
    a_model,
    small=st.builds(curve, st.floats(1e-3, 0.1), st.floats(0, 1e-4)),
    large=st.builds(curve, st.floats(1e-3, 0.1), st.floats(0, 1e-4)),
    threshold_tokens=st.integers(1, 8192),
    max_batched_tokens=st.sampled_from([512, 2048, 8192]),
    max_sequences=st.integers(1, 1024),
    kv_capacity_tokens=st.floats(1e4, 1e7),
    kv_read_seconds=st.floats(0, 1e-7),
    pair_seconds=st.floats(0, 1e-9),
    request_seconds=st.floats(0, 1e-4),
)
mixes = st.builds(Mix.of, st.floats(1, 30_000), st.floats(1, 5_000), st.floats(0, 1))
limits = st.none() | st.floats(0.01, 10)


@given(models, mixes, st.builds(Slo, limits, limits))
def test_a_capacity_is_positive_and_keeps_the_tpot_it_promises(model: PerfModel, mix: Mix, slo: Slo) -> None:
    can = capacity(model, mix, slo)
    assert can.requests_per_second > 0
    if slo.tpot_seconds is not None and can.bound is not CapacityBound.SLO_UNREACHABLE:
        tpot = predicted_tpot(model, mix, 0.9 * can.requests_per_second)
        assert tpot is not None
        assert can.tpot_seconds <= slo.tpot_seconds


@given(models, mixes, st.floats(0.01, 10), st.floats(1, 4))
def test_a_looser_slo_never_takes_less(model: PerfModel, mix: Mix, seconds: float, factor: float) -> None:
    tight = capacity(model, mix, Slo(tpot_seconds=seconds))
    loose = capacity(model, mix, Slo(tpot_seconds=factor * seconds))
    if tight.bound is not CapacityBound.SLO_UNREACHABLE:
        assert loose.requests_per_second >= tight.requests_per_second


@given(models, mixes, st.floats(0, 1e9, allow_nan=False) | st.just(float("nan")), st.floats(0, 1e4))
def test_no_measurement_takes_the_correction_out_of_its_guards(
    model: PerfModel, mix: Mix, measured: float, elapsed: float
) -> None:
    learned = corrected(model, mix, rate=1.0, measured_tpot=measured, elapsed_seconds=elapsed)
    assert 0.3 <= learned.correction <= 3.0


def test_a_machine_slower_than_its_curve_is_learned_and_an_absurd_one_is_not() -> None:
    model = a_model()
    predicted = predicted_tpot(model, MIX, 5.0)
    assert predicted is not None
    slower = model
    for _ in range(100):
        slower = corrected(slower, MIX, rate=5.0, measured_tpot=1.5 * predicted, elapsed_seconds=15)
    assert slower.correction == pytest.approx(1.5, abs=0.01)
    assert (
        capacity(slower, MIX, Slo(tpot_seconds=0.03)).requests_per_second
        < capacity(model, MIX, Slo(tpot_seconds=0.03)).requests_per_second
    )
    absurd = corrected(model, MIX, rate=5.0, measured_tpot=10 * predicted, elapsed_seconds=15)
    assert absurd == replace(model)
