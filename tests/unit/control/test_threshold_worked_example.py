"""The example in the docstring of control/threshold.py, by its own numbers."""

from collections.abc import Callable

import pytest
from shift_operator.api.schedule import Degree
from shift_operator.api.signals import Instant, Signals, SizeBucket
from shift_operator.control.decision import Verb
from shift_operator.control.reasons import ThresholdReason
from shift_operator.control.threshold import ThresholdBounds, decide_threshold

BOUNDS = ThresholdBounds(Degree(sequence=2, tensor=1), minimum=1, maximum=1024)
STEPS = [SizeBucket(7, 8, 900), SizeBucket(2047, 2048, 100)]


@pytest.fixture
def signals(signals_of: Callable[..., Signals]) -> Signals:
    return signals_of(STEPS, lambda n: 0.004 + 10e-6 * n, lambda n: 0.008 + 5e-6 * n)


def test_the_threshold_goes_to_the_crossover_when_the_traffic_gains_by_it(signals: Signals, now: Instant) -> None:
    decision = decide_threshold(4, signals, BOUNDS, ready_pods=1, now=now)
    assert (decision.verb, decision.after, decision.reason) == (Verb.RAISE, 800, ThresholdReason.LESS_STEP_TIME)
    assert [str(fact) for fact in decision.evidence] == [
        "mean step 9.06 ms at 4, 5.50 ms at 800",
        "gain 39.3 %, a change is worth 2 %",
        "steps observed 1000",
        "crossover 801 tokens",
        "pods reporting 1 of 1 ready",
    ]


def test_the_threshold_stays_when_no_observed_step_lies_between_it_and_the_crossover(
    signals: Signals, now: Instant
) -> None:
    decision = decide_threshold(512, signals, BOUNDS, ready_pods=1, now=now)
    assert (decision.verb, decision.after, decision.reason) == (Verb.HOLD, 512, ThresholdReason.BEST_ALREADY)
    assert decision.wanted == 512


def test_the_decision_reads_as_one_line(signals: Signals, now: Instant) -> None:
    decision = decide_threshold(4, signals, BOUNDS, ready_pods=1, now=now)
    assert str(decision).startswith("Threshold 4 -> 800: LessStepTime (mean step 9.06 ms at 4, 5.50 ms at 800; ")
