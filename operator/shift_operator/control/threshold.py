"""The threshold law: the number of batched tokens above which a step runs sequence-parallel.

For the observed step sizes n_b with their counts w_b and the two step-time curves that the engine measured, a
threshold T costs

    cost(T) = sum over b of  w_b * (t_tp(n_b) if n_b <= T else t_sp(n_b))

which is the time those steps would have taken. The law wants the T of least cost, and where several cost the same the
one nearest to the curves' crossover: traffic that never runs a step between 64 and 2048 tokens says nothing about
where in between the threshold belongs, the curves do. Where the curves cross once, the crossover is that T for any
traffic; the traffic decides whether the change is worth making, and which crossing counts where there are several.

The threshold moves only for a gain above `LawSettings.min_gain_percent`, and only on signals that are all known, fresh
and complete. In anything else it is held. A threshold outside its range goes to the nearest bound without asking any
signal, since the range is the user's word. A second decision on the same signals holds.

Worked example (the numbers of tests/unit/control/test_threshold_worked_example.py). P = 2; 1,000 steps were observed,
900 of 8 tokens and 100 of 2048; t_tp(n) = 4 ms + 10 us * n, t_sp(n) = 8 ms + 5 us * n: equal at 800 tokens.
    T = 4    all steps run sequence-parallel      900 * 8.04 ms + 100 * 18.24 ms = 9.060 s
    T = 800  the small ones run tensor-parallel   900 * 4.08 ms + 100 * 18.24 ms = 5.496 s
From 4 the law moves to 800, a gain of 39.3 %. From 512 it holds: no observed step lies between 512 and 800.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from operator import sub

from shift_operator.api.schedule import Degree
from shift_operator.api.signals import Instant, Known, Signals, SizeBucket, Unknown, UnknownWhy
from shift_operator.control.curves import Curve, crossings, crossover, curve_through
from shift_operator.control.decision import Decision, Fact, Knob
from shift_operator.control.distribution import Steps, steps_of
from shift_operator.control.reasons import ThresholdLimit, ThresholdReason

ThresholdDecision = Decision[ThresholdReason, ThresholdLimit]

ROUNDING = 1e-9
"""Costs that differ by a smaller share are equal: sums of the same floats in another order differ by about 1e-15."""


@dataclass(frozen=True, slots=True)
class ThresholdBounds:
    """What the user allows: the degree of large steps, and the threshold's range in tokens per step, ends included."""

    degree: Degree
    minimum: int
    maximum: int

    @property
    def tensor_degree(self) -> Degree:
        """The degree of the small steps: full tensor parallelism over the same GPUs."""
        return self.degree.tensor_only

    def clamp(self, tokens: int) -> int:
        """The nearest threshold within the range."""
        return min(max(tokens, self.minimum), self.maximum)


@dataclass(frozen=True, slots=True)
class LawSettings:
    """How sure the law must be before it moves a threshold. The defaults are meant to be left alone."""

    min_gain_percent: float = 2.0
    """A smaller share of the observed step time is not worth a change: steps of one size vary by about as much."""

    min_steps: int = 100
    """Fewer steps in the window than this are no distribution: hold. A busy engine runs them in a few seconds."""

    max_age_seconds: float = 60.0
    """Signals whose oldest sample is older hold the threshold. Four scrapes at the chart's 15 s."""


def decide_threshold(
    before: int,
    signals: Signals,
    bounds: ThresholdBounds,
    *,
    ready_pods: int,
    now: Instant,
    law: LawSettings | None = None,
) -> ThresholdDecision:
    """What becomes of a threshold that is `before` now, given one deployment's signals and the pods that are ready.

    Pure and total: any signals give a decision, and `after` always lies within `bounds`.
    """
    law = law or LawSettings()
    signals = signals.as_of(now, law.max_age_seconds)
    match _inputs(signals, bounds, ready_pods):
        case _Doubt(reason, evidence):
            return _held(before, bounds, reason, evidence)
        case _Inputs() as inputs:
            return _decide(before, inputs, bounds, law)


@dataclass(frozen=True, slots=True)
class _Inputs:
    """All the law needs, known."""

    buckets: tuple[SizeBucket, ...]
    small: Curve
    large: Curve
    max_batched_tokens: int
    pods: Fact


@dataclass(frozen=True, slots=True)
class _Doubt:
    """Why the law cannot decide."""

    reason: ThresholdReason
    evidence: tuple[Fact, ...]


REASON_OF_UNKNOWN: Mapping[UnknownWhy, ThresholdReason] = {
    UnknownWhy.ABSENT: ThresholdReason.SIGNALS_MISSING,
    UnknownWhy.NOT_A_NUMBER: ThresholdReason.SIGNALS_MISSING,
    UnknownWhy.STALE: ThresholdReason.SIGNALS_STALE,
    UnknownWhy.PARTIAL: ThresholdReason.SIGNALS_PARTIAL,
    UnknownWhy.UNREACHABLE: ThresholdReason.PROMETHEUS_UNREACHABLE,
}


def _inputs(signals: Signals, bounds: ThresholdBounds, ready_pods: int) -> _Inputs | _Doubt:
    match signals.pods_reporting, signals.max_batched_tokens, signals.step_time, signals.step_sizes:
        case Known(pods), Known(max_batched_tokens), Known(curves), Known(buckets):
            reporting = Fact("pods reporting", f"{pods} of {ready_pods} ready")
            if pods < ready_pods:
                return _Doubt(ThresholdReason.SIGNALS_PARTIAL, (reporting,))
            small, large = (curve_through(curves.get(d, ())) for d in (bounds.tensor_degree, bounds.degree))
            if small is None or large is None:
                missing = bounds.tensor_degree if small is None else bounds.degree
                lack = f"no curve of two points or more for degree {missing.sequence}x{missing.tensor}"
                return _Doubt(ThresholdReason.SIGNALS_PARTIAL, (Fact(signals.step_time.source, lack), reporting))
            return _Inputs(buckets, small, large, max_batched_tokens, reporting)
        case needed:
            unknown = [signal for signal in needed if isinstance(signal, Unknown)]
            evidence = tuple(
                dict.fromkeys(Fact(u.source, f"{u.why}" + (f" ({u.detail})" if u.detail else "")) for u in unknown)
            )
            return _Doubt(REASON_OF_UNKNOWN[unknown[0].why], evidence)


def _decide(before: int, inputs: _Inputs, bounds: ThresholdBounds, law: LawSettings) -> ThresholdDecision:
    largest_step = inputs.max_batched_tokens
    lowest, highest = bounds.minimum, min(bounds.maximum, largest_step - 1)
    if lowest > highest:
        limit = Fact("max batched tokens", f"{largest_step} per step, the range starts at {lowest}")
        return _held(before, bounds, ThresholdReason.RANGE_ABOVE_STEPS, (limit, inputs.pods))
    steps = steps_of(inputs.buckets, largest_step)
    if steps.total < law.min_steps:
        few = Fact("steps observed", f"{steps.total:.0f}, at least {law.min_steps} needed")
        return _held(before, bounds, ThresholdReason.TOO_FEW_STEPS, (few, inputs.pods))

    cost_of = StepTimeOf(steps, inputs.small, inputs.large)
    crossed = crossings(inputs.small, inputs.large, largest_step)
    crossing = crossover(inputs.small, inputs.large, largest_step)
    prefer = largest_step if crossing is None else crossing - 1
    held = min(max(before, lowest), highest)
    candidates = {
        *(lowest, highest, prefer, largest_step, held),
        *(int(bucket.up_to) for bucket in inputs.buckets if bucket.up_to <= largest_step),
        *(point.tokens for curve in (inputs.small, inputs.large) for point in curve.points),
        *(tokens - 1 for tokens in crossed),
    }
    cost = {tokens: cost_of(tokens) for tokens in candidates if tokens <= largest_step}
    best = _least({tokens: seconds for tokens, seconds in cost.items() if lowest <= tokens <= highest}, prefer)
    anywhere = _least(cost, prefer)
    wanted = held if _equal(cost[held], cost[anywhere]) else anywhere
    gain_percent = 100 * (1 - cost[best] / cost[held])

    def mean_at(tokens: int) -> str:
        return f"{1000 * cost[tokens] / steps.total:.2f} ms at {tokens}"

    if gain_percent > law.min_gain_percent:
        after, reason = best, ThresholdReason.LESS_STEP_TIME
    elif held != before:
        after, reason = held, ThresholdReason.OUTSIDE_RANGE
    elif _equal(cost[held], cost[best]):
        after, reason = held, ThresholdReason.BEST_ALREADY
    else:
        after, reason = held, ThresholdReason.GAIN_TOO_SMALL
    return Decision(
        knob=Knob.THRESHOLD,
        before=before,
        wanted=wanted,
        after=after,
        reason=reason,
        limit=_limit(wanted, bounds, lowest, highest),
        evidence=(
            Fact("mean step", f"{mean_at(held)}, {mean_at(best)}"),
            Fact("gain", f"{gain_percent:.1f} %, a change is worth {law.min_gain_percent:g} %"),
            Fact("steps observed", f"{steps.total:.0f}"),
            Fact("crossover", "none" if crossing is None else f"{crossing} tokens"),
            inputs.pods,
        ),
    )


class StepTimeOf:
    """cost(T): seconds the observed steps take, those of up to T tokens on the `small` curve, the rest on `large`."""

    def __init__(self, observed: Steps, small: Curve, large: Curve) -> None:
        self._tokens = observed.tokens
        self._small, self._large = observed.seconds(small), observed.seconds(large)

    def __call__(self, threshold: int) -> float:
        """Seconds in all at this threshold, in tokens per step."""
        below = bisect_right(self._tokens, threshold)
        return self._small[below] + (self._large[-1] - self._large[below])

    def least(self, lowest: int, highest: int) -> float:
        """Seconds in all at the best threshold in [lowest, highest]. The cost changes only at an observed size."""
        first = bisect_right(self._tokens, lowest)
        last = max(bisect_right(self._tokens, highest), first)
        small, large = self._small[first : last + 1], self._large[first : last + 1]
        least: float = min(map(sub, small, large))
        return least + self._large[-1]


def _least(cost: Mapping[int, float], prefer: int) -> int:
    """The candidate of least cost; of equal ones the nearest to `prefer`, then the lower."""
    most = min(cost.values()) / (1 - ROUNDING)
    return min((tokens for tokens, seconds in cost.items() if seconds <= most), key=lambda t: (abs(t - prefer), t))


def _equal(one: float, other: float) -> bool:
    return abs(one - other) <= ROUNDING * max(one, other)


def _limit(wanted: int, bounds: ThresholdBounds, lowest: int, highest: int) -> ThresholdLimit | None:
    if wanted < lowest:
        return ThresholdLimit.RANGE_MINIMUM
    if wanted > highest:
        return ThresholdLimit.RANGE_MAXIMUM if highest == bounds.maximum else ThresholdLimit.MAX_BATCHED_TOKENS
    return None


def _held(
    before: int, bounds: ThresholdBounds, reason: ThresholdReason, evidence: tuple[Fact, ...]
) -> ThresholdDecision:
    """Stay, or go to the nearest bound if the range has moved away from under the threshold."""
    after = bounds.clamp(before)
    why = reason if after == before else ThresholdReason.OUTSIDE_RANGE
    return Decision(Knob.THRESHOLD, before=before, wanted=None, after=after, reason=why, evidence=evidence)
