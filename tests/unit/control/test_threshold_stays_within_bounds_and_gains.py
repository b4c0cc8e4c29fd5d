"""What holds for the threshold law whatever the traffic, the curves and the range."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from shift_operator.api.schedule import Degree
from shift_operator.api.signals import SOURCES, CurvePoint, Known, Signals, SizeBucket, Span, Unknown, UnknownWhy
from shift_operator.control.curves import Curve
from shift_operator.control.distribution import steps_of
from shift_operator.control.reasons import ThresholdLimit, ThresholdReason
from shift_operator.control.threshold import (
    LawSettings,
    StepTimeOf,
    ThresholdBounds,
    ThresholdDecision,
    decide_threshold,
)

NOW = 1_800_000_000.0
EDGES = (0, 1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
SMALL, LARGE = Degree(sequence=1, tensor=2), Degree(sequence=2, tensor=1)


@dataclass(frozen=True)
class Case:
    """One deployment in front of the law."""

    before: int
    counts: tuple[int, ...]
    small: tuple[CurvePoint, ...]
    large: tuple[CurvePoint, ...]
    max_batched_tokens: int
    bounds: ThresholdBounds

    @property
    def buckets(self) -> tuple[SizeBucket, ...]:
        return tuple(SizeBucket(a, b, n) for (a, b), n in zip(pairwise(EDGES), self.counts, strict=True))

    @property
    def signals(self) -> Signals:
        values = {
            "step_sizes": self.buckets,
            "steps": {},
            "step_time": {SMALL: self.small, LARGE: self.large},
            "max_batched_tokens": self.max_batched_tokens,
            "max_sequences": 256,
            "pods_reporting": 1,
            "threshold_tokens": Span(self.before, self.before),
            "generation": Span(1, 1),
            "running": 0.0,
            "waiting": 0.0,
        }
        return Signals(**{name: Known(value, NOW, SOURCES[name]) for name, value in values.items()})

    def decide(self, before: int | None = None) -> ThresholdDecision:
        return decide_threshold(
            self.before if before is None else before, self.signals, self.bounds, ready_pods=1, now=NOW
        )

    def cost(self, threshold: int) -> float:
        """The law's own cost of a threshold."""
        steps = steps_of(tuple(self.buckets), self.max_batched_tokens)
        return StepTimeOf(steps, Curve(self.small), Curve(self.large))(threshold)


def curves(max_batched_tokens: int) -> st.SearchStrategy[tuple[CurvePoint, ...]]:
    sizes = [n for n in EDGES[1:] if n < max_batched_tokens] + [max_batched_tokens]
    times = st.lists(st.floats(1e-4, 1.0), min_size=len(sizes), max_size=len(sizes))
    return times.map(lambda seconds: tuple(map(CurvePoint, sizes, seconds)))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    max_batched_tokens = draw(st.sampled_from([64, 100, 512, 2048, 4096]))
    low, high = sorted((draw(st.integers(1, 5000)), draw(st.integers(1, 5000))))
    return Case(
        before=draw(st.integers(1, 6000)),
        counts=tuple(draw(st.lists(st.integers(0, 2000), min_size=len(EDGES) - 1, max_size=len(EDGES) - 1))),
        small=draw(curves(max_batched_tokens)),
        large=draw(curves(max_batched_tokens)),
        max_batched_tokens=max_batched_tokens,
        bounds=ThresholdBounds(LARGE, low, high),
    )


@given(cases())
def test_the_threshold_is_always_within_its_range(case: Case) -> None:
    decision = case.decide()
    assert case.bounds.minimum <= decision.after <= case.bounds.maximum


@given(cases())
def test_a_move_never_costs_more_than_staying(case: Case) -> None:
    decision = case.decide()
    if decision.reason is ThresholdReason.LESS_STEP_TIME:
        stay = min(case.bounds.clamp(case.before), case.max_batched_tokens - 1)
        assert case.cost(decision.after) < case.cost(stay) * (1 - LawSettings().min_gain_percent / 100)


@given(cases(), st.integers(1, 5000))
def test_no_other_threshold_of_the_range_would_gain_more_than_it_is_worth(case: Case, other: int) -> None:
    decision = case.decide()
    within = min(case.bounds.clamp(other), case.max_batched_tokens - 1)
    if decision.wanted is None:  # too few steps, or no choice left: the costs were not asked for
        return
    assert case.cost(within) >= case.cost(decision.after) * (1 - LawSettings().min_gain_percent / 100) * (1 - 1e-6)


@given(cases())
def test_a_second_decision_on_the_same_signals_holds(case: Case) -> None:
    first = case.decide()
    assert not case.decide(before=first.after).moves


@given(cases(), st.sampled_from(["step_sizes", "step_time", "max_batched_tokens", "pods_reporting"]))
def test_one_unknown_is_enough_to_hold(case: Case, name: str) -> None:
    signals = replace(case.signals, **{name: Unknown(UnknownWhy.ABSENT, SOURCES[name])})
    decision = decide_threshold(case.before, signals, case.bounds, ready_pods=1, now=NOW)
    assert decision.after == case.bounds.clamp(case.before)


# Powers of two: a float times one is exact, so that even decisions at a hair's breadth stay.
@given(cases(), st.sampled_from([1 / 64, 0.5, 2, 1024]))
def test_a_machine_that_is_faster_at_everything_changes_nothing(case: Case, factor: float) -> None:
    scaled = replace(
        case,
        small=tuple(CurvePoint(n, seconds * factor) for n, seconds in case.small),
        large=tuple(CurvePoint(n, seconds * factor) for n, seconds in case.large),
    )
    assert replace(scaled.decide(), evidence=()) == replace(case.decide(), evidence=())


@given(cases())
def test_the_order_of_curves_in_the_answer_does_not_matter(case: Case) -> None:
    assert isinstance(case.signals.step_time, Known)
    turned = replace(case.signals.step_time, value=dict(reversed(case.signals.step_time.value.items())))
    signals = replace(case.signals, step_time=turned)
    assert decide_threshold(case.before, signals, case.bounds, ready_pods=1, now=NOW) == case.decide()


@given(cases())
def test_sequence_parallel_faster_everywhere_goes_to_the_minimum(case: Case) -> None:
    case = replace(case, large=tuple(CurvePoint(n, seconds / 2) for n, seconds in case.small))
    decision = case.decide()
    if decision.reason is ThresholdReason.LESS_STEP_TIME:
        assert decision.after == case.bounds.minimum
        assert decision.limit in (None, ThresholdLimit.RANGE_MINIMUM)


@given(cases())
def test_tensor_parallel_faster_everywhere_goes_to_the_maximum(case: Case) -> None:
    case = replace(case, large=tuple(CurvePoint(n, seconds * 2) for n, seconds in case.small))
    decision = case.decide()
    if decision.reason is ThresholdReason.LESS_STEP_TIME:
        assert decision.after == min(case.bounds.maximum, case.max_batched_tokens - 1)
        assert decision.limit in (ThresholdLimit.RANGE_MAXIMUM, ThresholdLimit.MAX_BATCHED_TOKENS)


def test_the_move_to_an_end_does_happen(signals_of: Callable[..., Signals]) -> None:
    """The two promises above are not empty."""
    bounds = ThresholdBounds(LARGE, 16, 1024)
    steps = [SizeBucket(a, b, 100) for a, b in pairwise(EDGES[:18])]
    for factor, end, limit in ((0.5, 16, ThresholdLimit.RANGE_MINIMUM), (2, 1024, ThresholdLimit.RANGE_MAXIMUM)):
        signals = signals_of(steps, lambda n: 0.004 + 1e-5 * n, lambda n, f=factor: f * (0.004 + 1e-5 * n))
        decision = decide_threshold(256, signals, bounds, ready_pods=1, now=NOW)
        assert (decision.after, decision.limit) == (end, limit)


def test_a_threshold_at_the_largest_step_would_switch_sequence_parallelism_off(
    signals_of: Callable[..., Signals],
) -> None:
    bounds = ThresholdBounds(LARGE, 16, 4096)
    steps = [SizeBucket(a, b, 100) for a, b in pairwise(EDGES[:18])]
    signals = signals_of(steps, lambda n: 0.004 + 1e-5 * n, lambda n: 2 * (0.004 + 1e-5 * n))
    decision = decide_threshold(256, signals, bounds, ready_pods=1, now=NOW)
    assert (decision.wanted, decision.after, decision.limit) == (2048, 2047, ThresholdLimit.MAX_BATCHED_TOKENS)


def test_a_range_above_the_largest_step_leaves_no_choice(signals_of: Callable[..., Signals]) -> None:
    bounds = ThresholdBounds(LARGE, 2048, 4096)
    signals = signals_of([SizeBucket(0, 1, 1000)], lambda n: 0.004, lambda n: 0.001)
    decision = decide_threshold(2048, signals, bounds, ready_pods=1, now=NOW)
    assert (decision.moves, decision.reason) == (False, ThresholdReason.RANGE_ABOVE_STEPS)
