"""What holds for the degree law over any course of traffic, curves, outages and restarts."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shift_operator.api.schedule import Degree
from shift_operator.api.signals import SOURCES, CurvePoint, Known, Signals, SizeBucket, Unknown, UnknownWhy
from shift_operator.control.degree import DegreeBounds, DegreeLaw, DegreeState, KvMemory, decide_degree

from tests.unit.examples import examples

NOW = 1_800_000_000.0
TP, SP4, MIXED = (Degree(sequence=sequence, tensor=4 // sequence) for sequence in (1, 4, 2))
LAW = DegreeLaw(min_gain_percent=10, hold_seconds=600, gap_seconds=120)
BOUNDS = DegreeBounds((SP4, MIXED, TP), 1, 1024)


@dataclass(frozen=True)
class Look:
    """What one look sees: milliseconds per large step at each degree, KV tokens in use, what is unknown."""

    seconds: int
    milliseconds: dict[Degree, float]
    kv_needed: float | None
    unknown: str | None
    may_change: bool


MILLISECONDS = st.sampled_from([8.0, 9.0, 9.5, 10.0, 12.0])


@st.composite
def looks(draw: st.DrawFn) -> Look:
    """Mostly clear ones, on which the law would change, and now and then a disturbance."""
    fast = draw(st.sampled_from([MIXED, MIXED, MIXED, SP4, None]))
    values = dict.fromkeys((TP, SP4, MIXED), 10.0)
    values |= {fast: 8.0} if fast else {draw(st.sampled_from([SP4, MIXED])): draw(MILLISECONDS)}
    return Look(
        seconds=draw(st.sampled_from([60, 60, 60, 119, 121])),
        milliseconds=values,
        kv_needed=draw(st.sampled_from([50_000.0] * 6 + [90_000.0, None])),
        unknown=draw(st.sampled_from([None] * 12 + ["step_sizes", "step_time", "pods_reporting"])),
        may_change=draw(st.sampled_from([True, True, True, False])),
    )


courses = st.lists(st.tuples(looks(), st.sampled_from([1, 1, 3, 9, 12])), min_size=1, max_size=8).map(
    lambda spells: [look for look, times in spells for _ in range(times)]
)
"""Spells of looks that see the same: a look alone, and up to twelve, in which a gain gets old enough to act on."""


def signals(look: Look, template: Signals, now: float) -> Signals:
    curves = {
        degree: (CurvePoint(1, milliseconds / 1000), CurvePoint(8192, milliseconds / 1000))
        for degree, milliseconds in look.milliseconds.items()
    }
    fresh = {name: replace(signal, at=now) for name, signal in template if isinstance(signal, Known)}
    seen = replace(template, **fresh | {"step_time": Known(curves, now, SOURCES["step_time"])})
    if look.unknown is None:
        return seen
    return replace(seen, **{look.unknown: Unknown(UnknownWhy.ABSENT, SOURCES[look.unknown])})


CAPACITY = {SP4: 100_000.0, MIXED: 100_000.0, TP: 150_000.0}


@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(course=courses, before=st.sampled_from([SP4, MIXED]))
def test_over_any_course_the_promises_hold(
    signals_of: Callable[..., Signals], course: list[Look], before: Degree
) -> None:
    """It changes only to a candidate that every look of the last ten minutes saw better, with room, when it may."""
    template = signals_of([SizeBucket(2047, 2048, 1000)], lambda n: 0.01, lambda n: 0.01, max_batched_tokens=8192)
    state, now, degree = DegreeState(), NOW, before
    since_change: list[tuple[float, Look]] = []
    for look in course:
        now += look.seconds
        kv = KvMemory(look.kv_needed, CAPACITY)
        decision, state = decide_degree(
            degree,
            signals(look, template, now),
            BOUNDS,
            kv,
            state,
            profile_curves={},
            ready_pods=1,
            may_change=look.may_change,
            now=now,
            law=LAW,
        )
        since_change.append((now, look))
        if not decision.moves:
            assert decision.after == degree.sequence
            continue
        chosen = next(c for c in BOUNDS.candidates if c.sequence == decision.after)
        assert look.may_change
        assert look.unknown is None
        lasting = [(at, seen) for at, seen in since_change if at >= now - LAW.hold_seconds and seen.unknown is None]
        assert lasting[-1][0] - lasting[0][0] >= LAW.hold_seconds - 120, "looks do not span the time"
        for _, seen in lasting:
            gain = 1 - seen.milliseconds[chosen] / seen.milliseconds[degree]  # no threshold is above 1024
            assert gain >= 0.1 - 1e-9
            assert seen.kv_needed is not None
            assert seen.kv_needed <= LAW.kv_room * CAPACITY[chosen]
        gaps = [later[0] - sooner[0] for sooner, later in pairwise(lasting)]
        assert max(gaps) <= LAW.gap_seconds
        degree, since_change = chosen, []
        assert state.better_since == (), "what was better than the old degree says nothing of the new one"


@settings(max_examples=examples(50), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(look=looks(), before=st.sampled_from([SP4, MIXED, TP]))
def test_equal_inputs_give_equal_decisions(signals_of: Callable[..., Signals], look: Look, before: Degree) -> None:
    template = signals_of([SizeBucket(2047, 2048, 1000)], lambda n: 0.01, lambda n: 0.01, max_batched_tokens=8192)
    ripe = DegreeState(((MIXED, NOW - 600), (SP4, NOW - 600)), NOW - 15)

    def decide() -> object:
        return decide_degree(
            before, signals(look, template, NOW), BOUNDS, KvMemory(look.kv_needed, CAPACITY), ripe,
            profile_curves={}, ready_pods=1, may_change=look.may_change, now=NOW, law=LAW,
        )  # fmt: skip

    assert decide() == decide()
