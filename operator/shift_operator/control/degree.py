"""The degree law: how the GPUs of a replica split a large step, at a fixed number of GPUs.

For each candidate degree d, with the curve t_d(n) of its large steps, t_tp(n) of the small ones and the observed step
sizes n_b with their counts w_b:

    cost(d) = least over T in the threshold's range of  sum over b of  w_b * (t_tp(n_b) if n_b <= T else t_d(n_b))

The law wants the d of least cost among those whose KV cache holds what is in use, with room: a degree with less tensor
parallelism keeps more weights on each GPU and leaves less. A change costs a rollout, or at best a recapture of graphs,
so it is made only for a gain of `min_gain_percent` that each look of the last `hold_seconds` saw, and for one
deployment of the cluster at a time. In anything unknown the degree is held.

Worked example (the numbers of tests/unit/control/test_degree_worked_example.py). P = 8; all 1,000 steps have 2,048
tokens. 8x1 takes 8 ms + 5 us * 2048 = 18.24 ms for one, 4x2 takes 10 ms + 3 us * 2048 = 16.14 ms: a gain of 11.5 %.
After 30 minutes in which every look saw at least 10 %, the degree becomes 4x2.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from shift_operator.api.schedule import Degree
from shift_operator.api.signals import CurvePoint, Instant, Known, Signals, Unknown, UnknownWhy
from shift_operator.control.curves import curve_through
from shift_operator.control.decision import Decision, Fact, Knob
from shift_operator.control.distribution import Steps, steps_of
from shift_operator.control.reasons import DegreeLimit, DegreeReason
from shift_operator.control.threshold import REASON_OF_UNKNOWN, StepTimeOf

DegreeDecision = Decision[DegreeReason, DegreeLimit]

CurvePoints = Mapping[Degree, tuple[CurvePoint, ...]]


@dataclass(frozen=True, slots=True)
class DegreeBounds:
    """What the user allows: the candidates, all of one product, and the threshold's range in tokens per step; from 0 to
    0 where every step runs at the degree."""

    candidates: tuple[Degree, ...]
    threshold_minimum: int
    threshold_maximum: int


@dataclass(frozen=True, slots=True)
class KvMemory:
    """Tokens: `needed` per pod at present, None where unknown; `capacity` per pod at each degree where it is known."""

    needed: float | None
    capacity: Mapping[Degree, float]


@dataclass(frozen=True, slots=True)
class DegreeLaw:
    """How sure the law must be before it changes a degree. The policy may set the first two."""

    min_gain_percent: float = 10.0
    """A smaller share of the observed step time is not worth a rollout."""

    hold_seconds: float = 1800.0
    """For this long each look must have seen the gain."""

    gap_seconds: float = 120.0
    """After a longer time without a look the waiting begins anew."""

    min_steps: int = 100
    """Fewer steps in the window are no distribution: hold."""

    max_age_seconds: float = 60.0
    """Signals whose oldest sample is older hold the degree."""

    kv_room: float = 0.8
    """At most this share of a candidate's KV cache may be in use from the start."""


@dataclass(frozen=True, slots=True)
class DegreeState:
    """Since when which candidates have been better by enough, with no look that said otherwise. Kept in the status."""

    better_since: tuple[tuple[Degree, Instant], ...] = ()
    seen_at: Instant | None = None


def decide_degree(
    before: Degree,
    signals: Signals,
    bounds: DegreeBounds,
    kv: KvMemory,
    state: DegreeState,
    *,
    profile_curves: CurvePoints,
    ready_pods: int,
    may_change: bool,
    now: Instant,
    law: DegreeLaw | None = None,
) -> tuple[DegreeDecision, DegreeState]:
    """What becomes of the degree `before`, and the state for the next decision.

    Curves measured live count before those of the profile. `may_change` is false while a deployment of the cluster
    changes its degree. The decision's values are the sequence parallelism: with the GPUs it tells the degree.
    Pure and total: any signals give a decision, and `after` is `before` or a candidate's.
    """
    law = law or DegreeLaw()
    signals = signals.as_of(now, law.max_age_seconds)
    if state.seen_at is not None and now - state.seen_at > law.gap_seconds:
        state = DegreeState()
    match signals.pods_reporting, signals.max_batched_tokens, signals.step_time, signals.step_sizes:
        case Known(pods), _, _, _ if pods < ready_pods:
            reporting = Fact("pods reporting", f"{pods} of {ready_pods} ready")
            return _held(before, DegreeReason.SIGNALS_PARTIAL, (reporting,)), state
        case Known(_), Known(largest), Known(live), Known(buckets):
            pass
        case needed:
            unknown = [signal for signal in needed if isinstance(signal, Unknown)]
            evidence = tuple(dict.fromkeys(Fact(u.source, f"{u.why} {u.detail}".strip()) for u in unknown))
            return _held(before, REASONS_OF_UNKNOWN[unknown[0].why], evidence), state
    observed = steps_of(buckets, largest)
    if observed.total < law.min_steps:
        few = Fact("steps observed", f"{observed.total:.0f}, at least {law.min_steps} needed")
        return _held(before, DegreeReason.TOO_FEW_STEPS, (few,)), state

    curves = {**profile_curves, **live}
    costs = _costs(before, observed, curves, bounds, largest)
    if before not in costs:
        lack = Fact("step-time curve", f"none of two points or more for {before}, or for the small steps")
        return _held(before, DegreeReason.SIGNALS_PARTIAL, (lack,)), state
    return _decide(before, costs, observed.total, bounds, kv, state, law, may_change=may_change, now=now)


REASONS_OF_UNKNOWN: Mapping[UnknownWhy, DegreeReason] = {
    why: DegreeReason(str(reason)) for why, reason in REASON_OF_UNKNOWN.items()
}


def _costs(
    before: Degree, observed: Steps, curves: CurvePoints, bounds: DegreeBounds, largest: int
) -> dict[Degree, float]:
    """Seconds that the observed steps take at each degree with a curve, at its best threshold."""
    small = curve_through(curves.get(before.tensor_only, ()))
    if small is None:
        return {}
    lowest, highest = bounds.threshold_minimum, min(bounds.threshold_maximum, largest - 1)
    costs = {}
    for degree in dict.fromkeys((before, *bounds.candidates)):
        large = curve_through(curves.get(degree, ()))
        if large is not None and degree.gpus == before.gpus:
            costs[degree] = StepTimeOf(observed, small, large).least(lowest, highest)
    return costs


def _decide(
    before: Degree,
    costs: Mapping[Degree, float],
    steps: float,
    bounds: DegreeBounds,
    kv: KvMemory,
    state: DegreeState,
    law: DegreeLaw,
    *,
    may_change: bool,
    now: Instant,
) -> tuple[DegreeDecision, DegreeState]:
    gains = {
        degree: 100 * (1 - costs[degree] / costs[before])
        for degree in bounds.candidates
        if degree != before and degree in costs
    }
    better = {degree for degree, gain in gains.items() if gain >= law.min_gain_percent}
    fitting = {degree for degree in better if _fits(degree, kv, law)}
    since = {degree: at for degree, at in state.better_since if degree in fitting}
    since |= dict.fromkeys(fitting - since.keys(), now)
    state = DegreeState(tuple(sorted(since.items(), key=lambda item: item[0].sequence)), now)
    ripe = {degree for degree, at in since.items() if now - at >= law.hold_seconds}

    def order(degree: Degree) -> tuple[float, int]:
        return costs[degree], degree.sequence

    best = min(gains, key=order, default=before)
    wanted = min(fitting or better or {before}, key=order)
    facts = (
        Fact("mean step", ", ".join(f"{1000 * costs[d] / steps:.2f} ms at {d}" for d in sorted(costs, key=order))),
        Fact("gain", f"{gains.get(best, 0.0):.1f} % at {best}, a change is worth {law.min_gain_percent:g} %"),
    )
    held = _held(before, DegreeReason.BEST_ALREADY, facts, wanted)
    if not better:
        if gains.get(best, 0.0) > 0:
            return replace(held, reason=DegreeReason.GAIN_TOO_SMALL), state
        outside = before not in bounds.candidates
        return (replace(held, reason=DegreeReason.NOT_A_CANDIDATE) if outside else held), state
    if not fitting:
        short = tuple(_kv_fact(degree, kv) for degree in sorted(better, key=order))
        reason = DegreeReason.KV_CACHE_TOO_SMALL
        return replace(held, reason=reason, limit=DegreeLimit.KV_CACHE, evidence=(*facts, *short)), state
    if not ripe:
        age = Fact("gain held for", f"{now - since[wanted]:.0f} s of {law.hold_seconds:.0f} s")
        reason = DegreeReason.GAIN_TOO_YOUNG
        return replace(held, reason=reason, limit=DegreeLimit.DWELL, evidence=(*facts, age)), state
    if not may_change:
        return replace(held, reason=DegreeReason.ANOTHER_CHANGES, limit=DegreeLimit.ONE_AT_A_TIME), state
    chosen = min(ripe, key=order)
    limit = DegreeLimit.DWELL if chosen != wanted else None
    moved = replace(held, after=chosen.sequence, reason=DegreeReason.LESS_STEP_TIME, limit=limit)
    return moved, DegreeState((), now)


def _fits(degree: Degree, kv: KvMemory, law: DegreeLaw) -> bool:
    """Whether its KV cache holds what is in use with room; false where either is unknown."""
    capacity = kv.capacity.get(degree)
    return capacity is not None and kv.needed is not None and kv.needed <= law.kv_room * capacity


def _kv_fact(degree: Degree, kv: KvMemory) -> Fact:
    capacity = kv.capacity.get(degree)
    has = "unknown" if capacity is None else f"{capacity:.0f} tokens"
    return Fact(f"KV cache at {degree}", f"{has}, in use {'unknown' if kv.needed is None else f'{kv.needed:.0f}'}")


def _held(
    before: Degree, reason: DegreeReason, evidence: tuple[Fact, ...], wanted: Degree | None = None
) -> DegreeDecision:
    return Decision(
        Knob.DEGREE,
        before=before.sequence,
        wanted=None if wanted is None else wanted.sequence,
        after=before.sequence,
        reason=reason,
        evidence=evidence,
    )
