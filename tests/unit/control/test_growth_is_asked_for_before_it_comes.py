"""The forecast of the demand: over the time that a replica takes to start, upward only, and never far."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shift_operator.control.demand import HORIZON_SECONDS, MEMORY_SECONDS, MOST_GROWTH, Trend
from shift_operator.control.replicas import decide_replicas

from tests.unit.control.replica_cases import BOUNDS, NOW, SLO, a_model, curve, pods, settled, traffic

TICK = 15


def after(rates: list[float]) -> Trend:
    """The trend after a look each 15 s."""
    trend = Trend(NOW, rates[0])
    for number, rate in enumerate(rates[1:], start=1):
        trend = trend.updated(NOW + number * TICK, rate)
    return trend


GROWING = [5 + 0.01 * TICK * number for number in range(80)]
"""20 minutes in which each second brings 0.01 requests per second more."""


def test_a_steady_growth_is_carried_on() -> None:
    trend = after(GROWING)
    assert trend.level == pytest.approx(GROWING[-1], rel=0.01)
    assert trend.ahead(240) == pytest.approx(GROWING[-1] + 240 * 0.01, rel=0.01)


def test_traffic_that_falls_is_believed_when_it_has_fallen() -> None:
    trend = after(GROWING[::-1])
    assert trend.slope < 0
    assert trend.ahead(240) == trend.level


def test_after_a_long_gap_the_old_growth_says_nothing() -> None:
    trend = after(GROWING)
    assert trend.updated(trend.at + MEMORY_SECONDS + 1, 3.0) == Trend(trend.at + MEMORY_SECONDS + 1, 3.0)


def test_a_second_look_at_one_moment_changes_nothing() -> None:
    trend = after(GROWING)
    assert trend.updated(trend.at, 1000.0) == trend


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30), st.floats(0, 1e6))
def test_no_forecast_is_below_the_level_above_twice_it_or_beyond_the_horizon(rates: list[float], start: float) -> None:
    trend = after(rates)
    assert trend.level >= 0
    assert trend.level <= trend.ahead(start) <= MOST_GROWTH * trend.level
    assert trend.ahead(start) <= trend.ahead(HORIZON_SECONDS)


def test_what_takes_longer_to_start_is_asked_for_earlier() -> None:
    model = a_model(small=curve(0.01, 0.0), large=curve(0.01, 0.0), max_sequences=200 * 0.01 * 2 / 0.85)
    state = replace(settled(), trend=Trend(NOW - TICK, 5.0, slope=0.01))

    def wanted(start_seconds: float) -> int | None:
        seen = pods(start_seconds=start_seconds)
        return decide_replicas(3, traffic(), seen, BOUNDS, SLO, model, state, now=NOW)[0].wanted

    # 1.1 * 5.1 / 2 = 2.8; in 240 s 1.1 * 7.4 / 2 = 4.1
    assert (wanted(0.0), wanted(240.0)) == (3, 5)
