"""Unknown is not zero: without all it needs, the law leaves the threshold where it is and says what is missing."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from shift_operator.api.schedule import Degree
from shift_operator.api.signals import (
    SOURCES,
    CurvePoint,
    Instant,
    Known,
    Signals,
    SizeBucket,
    Unknown,
    UnknownWhy,
    nothing_known,
)
from shift_operator.control.decision import Verb
from shift_operator.control.reasons import ThresholdReason
from shift_operator.control.threshold import (
    REASON_OF_UNKNOWN,
    LawSettings,
    ThresholdBounds,
    decide_threshold,
)

BOUNDS = ThresholdBounds(Degree(sequence=2, tensor=1), minimum=1, maximum=1024)
NEEDED = ("step_sizes", "step_time", "max_batched_tokens", "pods_reporting")


@pytest.fixture
def signals(signals_of: Callable[..., Signals]) -> Signals:
    """Signals on which a threshold of 4 moves to 800."""
    return signals_of(
        [SizeBucket(7, 8, 900), SizeBucket(2047, 2048, 100)], lambda n: 0.004 + 10e-6 * n, lambda n: 0.008 + 5e-6 * n
    )


def test_with_all_signals_the_threshold_would_move(signals: Signals, now: Instant) -> None:
    assert decide_threshold(4, signals, BOUNDS, ready_pods=1, now=now).moves


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("why", UnknownWhy)
def test_any_needed_signal_that_is_unknown_holds_and_is_named(
    signals: Signals, now: Instant, name: str, why: UnknownWhy
) -> None:
    missing = replace(signals, **{name: Unknown(why, SOURCES[name], "as it happened")})
    decision = decide_threshold(4, missing, BOUNDS, ready_pods=1, now=now)
    assert (decision.verb, decision.wanted, decision.reason) == (Verb.HOLD, None, REASON_OF_UNKNOWN[why])
    assert [str(fact) for fact in decision.evidence] == [f"{SOURCES[name]} {why} (as it happened)"]


@pytest.mark.parametrize("name", sorted(SOURCES.keys() - set(NEEDED)))
def test_a_signal_that_the_law_does_not_use_may_be_missing(signals: Signals, now: Instant, name: str) -> None:
    missing = replace(signals, **{name: Unknown(UnknownWhy.ABSENT, SOURCES[name])})
    assert decide_threshold(4, missing, BOUNDS, ready_pods=1, now=now).after == 800


def test_an_unreachable_prometheus_holds_with_its_error(now: Instant) -> None:
    nothing = nothing_known(UnknownWhy.UNREACHABLE, "Prometheus at prometheus:9090 answered 503")
    decision = decide_threshold(4, nothing, BOUNDS, ready_pods=1, now=now)
    assert (decision.verb, decision.reason) == (Verb.HOLD, ThresholdReason.PROMETHEUS_UNREACHABLE)
    assert "answered 503" in str(decision)


def test_fewer_reporting_pods_than_ready_ones_hold(signals: Signals, now: Instant) -> None:
    decision = decide_threshold(4, signals, BOUNDS, ready_pods=2, now=now)
    assert (decision.verb, decision.reason) == (Verb.HOLD, ThresholdReason.SIGNALS_PARTIAL)
    assert [str(fact) for fact in decision.evidence] == ["pods reporting 1 of 2 ready"]


def test_more_reporting_pods_than_ready_ones_are_no_gap(signals: Signals, now: Instant) -> None:
    """A pod reports before it is ready, and until its end."""
    assert decide_threshold(4, signals, BOUNDS, ready_pods=0, now=now).moves


def test_signals_older_than_allowed_hold(signals: Signals, now: Instant) -> None:
    at_the_limit = decide_threshold(4, signals, BOUNDS, ready_pods=1, now=now, law=LawSettings(max_age_seconds=5))
    assert at_the_limit.moves
    decision = decide_threshold(4, signals, BOUNDS, ready_pods=1, now=now + 1, law=LawSettings(max_age_seconds=5))
    assert (decision.verb, decision.reason) == (Verb.HOLD, ThresholdReason.SIGNALS_STALE)
    assert "6 s old, at most 5 s allowed" in str(decision)


@pytest.mark.parametrize(
    ("left_out", "shown"),
    [(Degree(sequence=1, tensor=2), "1x2"), (Degree(sequence=2, tensor=1), "2x1")],
)
@pytest.mark.parametrize("points", [(), (CurvePoint(8, 0.004),)])
def test_without_a_curve_for_each_of_the_two_degrees_it_holds(
    signals: Signals, now: Instant, left_out: Degree, shown: str, points: tuple[CurvePoint, ...]
) -> None:
    assert isinstance(signals.step_time, Known)
    gap = replace(signals.step_time, value={**signals.step_time.value, left_out: points})
    decision = decide_threshold(4, replace(signals, step_time=gap), BOUNDS, ready_pods=1, now=now)
    assert (decision.verb, decision.reason) == (Verb.HOLD, ThresholdReason.SIGNALS_PARTIAL)
    assert f"shift_step_time_seconds no curve of two points or more for degree {shown}" in str(decision)


def test_a_deployment_that_runs_too_few_steps_holds(signals_of: Callable[..., Signals], now: Instant) -> None:
    """Idle is known and is not missing: the reason tells the two apart."""
    idle = signals_of([SizeBucket(0, 1, 0.0)], lambda n: 0.004 + 10e-6 * n, lambda n: 0.008 + 5e-6 * n)
    decision = decide_threshold(4, idle, BOUNDS, ready_pods=1, now=now)
    assert (decision.verb, decision.reason) == (Verb.HOLD, ThresholdReason.TOO_FEW_STEPS)
    assert "steps observed 0, at least 100 needed" in str(decision)


def test_the_range_is_kept_even_when_nothing_is_known(now: Instant) -> None:
    """The user narrowed the range while Prometheus is away: the range is their word and needs no metric."""
    decision = decide_threshold(4096, nothing_known(UnknownWhy.ABSENT, ""), BOUNDS, ready_pods=1, now=now)
    assert (decision.after, decision.reason) == (1024, ThresholdReason.OUTSIDE_RANGE)
