"""Demand in bursts: a worked number, what holds for any load, and what the replicas law makes of it."""

from math import sqrt

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from shift_operator.api.signals import SpanCounts, Unknown, UnknownWhy
from shift_operator.control.demand import CHANCE, MOST_BURST, peak
from shift_operator.control.performance import Slo
from shift_operator.control.reasons import ReplicasReason
from shift_operator.control.replicas import decide_replicas

from tests.unit.control.replica_cases import BOUNDS, NOW, SLO, a_model, curve, pods, settled, traffic

EVEN = SpanCounts(150.0, sqrt(CHANCE * 150.0))
BURSTS = SpanCounts(150.0, 60.0)


def test_the_peak_is_the_rate_and_so_many_deviations_as_the_promise_asks_for() -> None:
    """Beyond chance the counts deviate by sqrt(60^2 - 4 * 150) = 54.8 of 150, so v = 0.365; 1.645 v are for 95 %."""
    assert peak(5.0, BURSTS, 0.95) == pytest.approx(5 * (1 + 0.365**2 + 1.645 * 0.365), rel=1e-3)
    assert peak(5.0, BURSTS, 0.5) == pytest.approx(5 * (1 + 0.365**2), rel=1e-3)


def test_what_chance_alone_does_is_no_burst() -> None:
    assert peak(5.0, EVEN, 0.95) == 5
    assert peak(5.0, None, 0.95) == 5
    assert peak(0.0, SpanCounts(0.0, 0.0), 0.95) == 0


rates, means, deviations = st.floats(0, 1e6), st.floats(0, 1e300), st.floats(0, 1e300)
quantiles = st.integers(50, 99).map(lambda percent: percent / 100)


@given(rates, means, deviations, quantiles, st.floats(1, 10))
@example(1.0, 1.0, 1.4e154, 0.5, 1.0)  # the square of the variation is no finite number
def test_it_is_never_below_the_rate_and_rises_with_the_rate_the_bursts_and_the_promise(
    rate: float, mean: float, deviation: float, quantile: float, factor: float
) -> None:
    at = peak(rate, SpanCounts(mean, deviation), quantile)
    assert rate <= at <= MOST_BURST * rate
    assert peak(factor * rate, SpanCounts(mean, deviation), quantile) >= at
    assert peak(rate, SpanCounts(mean, factor * deviation), quantile) >= at
    assert peak(rate, SpanCounts(mean, deviation), min(factor * quantile, 0.99)) >= at


@given(st.floats(0.1, 1e3), st.floats(1, 1e3), st.floats(0, 100), st.floats(1, 10))
def test_a_busier_deployment_that_is_as_bursty_never_asks_for_less(
    rate: float, mean: float, dispersion: float, factor: float
) -> None:
    """With the dispersion (variance over mean) of a process laid over itself: the share of bursts falls, the sum does
    not."""
    one = peak(rate, SpanCounts(mean, sqrt(dispersion * mean)), 0.95)
    more = peak(factor * rate, SpanCounts(factor * mean, sqrt(dispersion * factor * mean)), 0.95)
    assert more >= one * (1 - 1e-9)


def of_two_requests_per_second() -> dict[str, object]:
    """As in the worked example: saturated at 2 / 0.85 requests per second."""
    return {"small": curve(0.01, 0.0), "large": curve(0.01, 0.0), "max_sequences": 200 * 0.01 * 2 / 0.85}


def test_a_load_in_bursts_takes_more_replicas_than_an_even_one() -> None:
    model = a_model(**of_two_requests_per_second())
    even, _ = decide_replicas(3, traffic(span_counts=EVEN), pods(), BOUNDS, SLO, model, settled(), now=NOW)
    bursts, _ = decide_replicas(3, traffic(span_counts=BURSTS), pods(), BOUNDS, SLO, model, settled(), now=NOW)
    assert (even.after, bursts.after, bursts.reason) == (3, 5, ReplicasReason.DEMAND)  # 1.1 * 8.67 / 2 = 4.8
    assert "demand in bursts 8.67 requests/s" in str(bursts)
    assert "bursts" not in str(even)


def test_bursts_hold_what_the_mean_would_give_up() -> None:
    model = a_model(**of_two_requests_per_second())
    even, _ = decide_replicas(5, traffic(pods_reporting=5), pods(5), BOUNDS, SLO, model, settled(), now=NOW)
    bursts, _ = decide_replicas(
        5, traffic(pods_reporting=5, span_counts=BURSTS), pods(5), BOUNDS, SLO, model, settled(), now=NOW
    )
    assert (even.after, bursts.after) == (3, 5)


def test_who_promises_nothing_has_bursts_wait() -> None:
    model = a_model(**of_two_requests_per_second())
    decision, _ = decide_replicas(3, traffic(span_counts=BURSTS), pods(), BOUNDS, Slo(), model, settled(), now=NOW)
    assert decision.after == 3


def test_unknown_bursts_hold_the_replicas() -> None:
    unknown = traffic(pods_reporting=5, span_counts=Unknown(UnknownWhy.ABSENT, "vllm:request_prompt_tokens_count"))
    model = a_model(**of_two_requests_per_second())
    decision, _ = decide_replicas(5, unknown, pods(5), BOUNDS, SLO, model, settled(), now=NOW)
    assert (decision.after, decision.reason) == (5, ReplicasReason.SIGNALS_MISSING)
    assert "vllm:request_prompt_tokens_count Absent" in str(decision)
