"""What holds for the replicas law over any course of signals, outages and restarts."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from shift_operator.api.signals import TRAFFIC_SOURCES, Attainment, SpanCounts, Traffic, Unknown, UnknownWhy
from shift_operator.control.replicas import decide_replicas
from shift_operator.control.scaling import PodsSeen, ReplicaBounds, ReplicaLaw, ReplicaState

from tests.unit.control.replica_cases import NOW, SLO, a_model, traffic
from tests.unit.examples import examples

LAW = ReplicaLaw()


@dataclass(frozen=True)
class Tick:
    """What one tick sees."""

    seconds: int
    traffic: dict[str, object]
    ready: int
    starting: int

    def signals(self, at: float) -> Traffic:
        return traffic(at=at, **self.traffic)


@st.composite
def ticks(draw: st.DrawFn) -> Tick:
    """Mostly quiet looks on which the law would go down, and now and then a disturbance."""
    pods = draw(st.sampled_from([20, 20, 20, 3]))
    values: dict[str, object] = {
        "finish_rate": draw(st.sampled_from([0.0, 1.0, 40.0, 150.0, 300.0])),
        "running": draw(st.sampled_from([0.0, 1.0, 50.0])),
        "kv_usage": draw(st.sampled_from([0.0, 0.01, 0.5])),
        "pods_reporting": pods,
    }
    values |= draw(
        st.sampled_from(
            [
                {},
                {},
                {},
                {"waiting": 500.0},
                {"in_system_slope": 20.0},
                {"span_counts": SpanCounts(150.0, 90.0)},
                {"tpot": Attainment(0, 300, 0.05)},
                {"tpot_seconds": 0.5},
                {"pods_reporting": pods - 1},
            ]
        )
    )
    if draw(st.integers(0, 4)) == 0:
        name = draw(st.sampled_from(sorted(TRAFFIC_SOURCES)))
        values[name] = Unknown(UnknownWhy.ABSENT, TRAFFIC_SOURCES[name])
    seconds = draw(st.sampled_from([15, 60, 299, 301]))
    return Tick(seconds, values, pods, draw(st.sampled_from([0, 0, 0, 1])))


BOUNDS = st.builds(
    lambda low, more, idle: ReplicaBounds(low, low + more, idle, 60.0),
    st.integers(0, 4),
    st.integers(1, 20),
    st.sampled_from([None, 0, 1]),
)


@settings(max_examples=examples(200))
@given(st.lists(ticks(), min_size=1, max_size=12), BOUNDS, st.integers(0, 30))
def test_over_any_course_the_promises_hold(course: list[Tick], bounds: ReplicaBounds, replicas: int) -> None:
    """The applied number stays in the bounds, at or above each wish of the window, and never falls on an unknown."""
    state, now = ReplicaState.fresh(NOW), NOW
    wishes: list[tuple[float, int]] = []
    for tick in course:
        now += tick.seconds
        before, seen = replicas, tick.signals(now)
        decision, state = decide_replicas(
            before, seen, PodsSeen(tick.ready, tick.starting), bounds, SLO, a_model(), state, now=now, law=LAW
        )
        replicas = decision.after
        assert bounds.lowest <= replicas <= bounds.maximum
        if decision.wanted is not None:
            wishes.append((now, decision.wanted))
        highest = max((n for at, n in wishes if at >= now - LAW.stabilization_seconds), default=0)
        within = min(max(before, bounds.lowest), bounds.maximum)
        if replicas < within:
            assert replicas >= min(highest, bounds.maximum)
            assert tick.traffic["pods_reporting"] == tick.ready or within > bounds.maximum, "went down on a part"
            assert now - NOW >= LAW.stabilization_seconds, "a state without history went down"
            assert not any(
                isinstance(getattr(seen, name), Unknown)
                for name in (
                    *("pods_reporting", "finish_rate", "in_system_slope", "span_counts"),
                    *("running", "waiting", "kv_usage"),
                )
            )
        assert len(state.window.recommendations) <= bounds.maximum + 1


@given(ticks(), BOUNDS, st.integers(0, 30))
def test_equal_inputs_give_equal_decisions(tick: Tick, bounds: ReplicaBounds, before: int) -> None:
    def decide() -> object:
        seen = PodsSeen(tick.ready, tick.starting)
        return decide_replicas(
            before, tick.signals(NOW), seen, bounds, SLO, a_model(), ReplicaState.fresh(NOW - 400), now=NOW
        )

    assert decide() == decide()


@given(ticks(), st.integers(1, 20))
def test_a_restart_without_any_state_lowers_nothing(tick: Tick, before: int) -> None:
    bounds = ReplicaBounds(0, 20, 0, 0.0)
    seen = PodsSeen(max(tick.ready, 1), tick.starting)
    decision, _ = decide_replicas(
        before, tick.signals(NOW), seen, bounds, SLO, a_model(), ReplicaState.fresh(NOW), now=NOW
    )
    assert decision.after >= before


@given(st.floats(0.1, 200), st.floats(0.1, 200), st.integers(1, 20))
def test_more_demand_never_gives_fewer_replicas(one: float, other: float, before: int) -> None:
    less, more = sorted((one, other))
    after = [
        decide_replicas(
            before,
            traffic(finish_rate=rate, pods_reporting=before),
            PodsSeen(before),
            ReplicaBounds(1, 50),
            SLO,
            a_model(),
            ReplicaState.fresh(NOW - 3600),
            now=NOW,
        )[0].after
        for rate in (less, more)
    ]
    assert after[0] <= after[1]
