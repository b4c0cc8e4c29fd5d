"""The replicas law at its plainest: the numbers of its docstring, and one case per reason."""

from dataclasses import replace

import pytest
from shift_operator.api.signals import Attainment
from shift_operator.control.performance import CapacityBound, Mix, PerfModel, Slo, capacity
from shift_operator.control.reasons import ReplicasLimit, ReplicasReason
from shift_operator.control.replicas import decide_replicas
from shift_operator.control.scaling import ReplicaBounds, ReplicaState
from shift_operator.control.stabilization import Recommendation, Window

from tests.unit.control.replica_cases import BOUNDS, NOW, SLO, a_model, curve, idle, pods, settled, traffic

MIX = Mix.of(1000, 200, 0.0)


def of_two_requests_per_second() -> PerfModel:
    """A replica that saturates at 2 / 0.85 requests per second whatever its step: 10 ms flat, so many sequences."""
    # lambda = x / t and B = output * x: 2 / 0.85 per second at 10 ms need B = 200 * 0.01 * 2 / 0.85 sequences.
    flat = curve(0.01, 0.0)
    return a_model(small=flat, large=flat, max_sequences=200 * 0.01 * 2 / 0.85)


def test_the_replica_of_the_example_takes_two_requests_per_second() -> None:
    can = capacity(of_two_requests_per_second(), MIX, Slo())
    assert can.requests_per_second == pytest.approx(2.0)
    assert can.bound is CapacityBound.SEQUENCES


def test_a_steady_load_that_fits_keeps_its_replicas() -> None:
    decision, _ = decide_replicas(3, traffic(), pods(), BOUNDS, SLO, of_two_requests_per_second(), settled(), now=NOW)
    assert (decision.wanted, decision.after, decision.reason) == (3, 3, ReplicasReason.DEMAND)


def test_what_was_asked_for_a_queue_stays_asked_for_until_it_has_come() -> None:
    """One of 4 replicas starts for longer than the window, and for a moment the model says that 2 would do."""
    state = replace(settled(), window=Window(NOW - 3600, (Recommendation(NOW - 301, 4),)))
    calm = traffic(waiting=1.0, finish_rate=2.0)
    decision, after = decide_replicas(
        4, calm, pods(ready=3, starting=1), BOUNDS, SLO, of_two_requests_per_second(), state, now=NOW
    )
    assert (decision.after, decision.reason) == (4, ReplicasReason.QUEUE_GROWS)
    gone = traffic(at=NOW + 10, waiting=0.0, finish_rate=2.0)
    decision, _ = decide_replicas(
        4, gone, pods(ready=3, starting=1), BOUNDS, SLO, of_two_requests_per_second(), after, now=NOW + 15
    )
    assert (decision.after, decision.reason) == (4, ReplicasReason.STABILIZING)


def test_a_queue_adds_a_replica_in_the_tick_that_sees_it() -> None:
    queue = traffic(waiting=60.0)
    decision, state = decide_replicas(3, queue, pods(), BOUNDS, SLO, of_two_requests_per_second(), settled(), now=NOW)
    assert (decision.wanted, decision.after, decision.reason) == (4, 4, ReplicasReason.QUEUE_GROWS)
    assert state.raised_at == NOW


def test_the_queue_that_replicas_were_started_for_asks_for_no_more() -> None:
    seen = pods(ready=3, starting=1)
    queue = traffic(waiting=60.0)
    decision, _ = decide_replicas(4, queue, seen, BOUNDS, SLO, of_two_requests_per_second(), settled(), now=NOW)
    assert decision.after == 4


def test_arrivals_that_grow_ask_at_once_by_the_slope_of_the_requests_in_the_system() -> None:
    """The finish rate still says 5 a second while 10 arrive."""
    growing = traffic(in_system_slope=5.0)
    decision, _ = decide_replicas(3, growing, pods(), BOUNDS, SLO, of_two_requests_per_second(), settled(), now=NOW)
    assert (decision.after, decision.reason) == (6, ReplicasReason.DEMAND)  # 1.1 * 10 / 2 = 5.5


def test_a_full_kv_cache_with_a_queue_asks_for_room() -> None:
    full = traffic(kv_usage=1.0, waiting=1.0)
    decision, _ = decide_replicas(3, full, pods(), BOUNDS, SLO, a_model(), settled(), now=NOW)
    assert (decision.after, decision.reason) == (4, ReplicasReason.KV_CACHE_FULL)  # 3 * 1.0 / 0.8 = 3.75


def test_a_missed_slo_that_the_model_does_not_see_adds_one_and_waits_for_its_effect() -> None:
    missed = traffic(tpot=Attainment(200, 300, 0.05))
    decision, state = decide_replicas(3, missed, pods(), BOUNDS, SLO, a_model(), settled(), now=NOW)
    assert (decision.after, decision.reason) == (4, ReplicasReason.SLO_MISSED)
    soon = traffic(at=NOW + 10, tpot=Attainment(200, 300, 0.05))
    decision, state = decide_replicas(4, soon, pods(4), BOUNDS, SLO, a_model(), state, now=NOW + 15)
    assert decision.after == 4


def test_an_slo_that_one_request_alone_misses_does_not_add_replicas() -> None:
    """More replicas do not make a prefill shorter."""
    slo = Slo(ttft_seconds=0.005)
    slow = traffic(ttft=Attainment(0, 300, 0.005), waiting=1.0)
    decision, _ = decide_replicas(3, slow, pods(), BOUNDS, slo, a_model(), settled(), now=NOW)
    assert not decision.moves
    assert "SLOUnreachable" in str(decision)


def test_going_down_goes_as_far_as_both_tests_allow() -> None:
    decision, _ = decide_replicas(3, traffic(), pods(), BOUNDS, SLO, a_model(), settled(), now=NOW)
    # The model wants 1. KV use of 30 % on 3 would be 90 % on 1, and is 45 % on 2.
    assert (decision.wanted, decision.after, decision.limit) == (1, 2, ReplicasLimit.SCALE_DOWN_TESTS)
    assert "KV cache at 1 replicas 90 %, at most 80 %" in str(decision)


@pytest.mark.parametrize(
    ("against", "said"),
    [
        ({"kv_usage": 0.7}, "KV cache at 2 replicas 105 %"),
        ({"waiting": 1.0}, "none may wait"),
        ({"ttft": Attainment(200, 300, 2.0)}, "TTFT the SLO is missed"),
    ],
)
def test_one_measurement_against_it_is_enough_to_stay(against: dict[str, float], said: str) -> None:
    decision, _ = decide_replicas(3, traffic(**against), pods(), BOUNDS, SLO, a_model(), settled(), now=NOW)
    if "SLO is missed" in said:  # a queue of none: it is not raised for it either
        assert decision.reason is ReplicasReason.SCALE_DOWN_UNSAFE
    assert decision.after == 3
    assert said in str(decision)


def test_the_model_against_it_is_enough_to_stay() -> None:
    """5.4 / 2 with 10 % on top is 2.97 replicas, but 20 % on top is more than 3: 4 stay."""
    decision, _ = decide_replicas(
        4,
        traffic(finish_rate=5.4, pods_reporting=4),
        pods(4),
        BOUNDS,
        SLO,
        of_two_requests_per_second(),
        settled(),
        now=NOW,
    )
    assert (decision.wanted, decision.after, decision.reason) == (3, 4, ReplicasReason.SCALE_DOWN_UNSAFE)


def test_a_higher_wish_within_the_window_stays_in_force() -> None:
    state = ReplicaState(Window(NOW - 3600, (Recommendation(NOW - 299, 3),)))
    decision, _ = decide_replicas(3, traffic(), pods(), BOUNDS, SLO, a_model(), state, now=NOW)
    assert (decision.after, decision.reason) == (3, ReplicasReason.STABILIZING)
    later, _ = decide_replicas(3, traffic(at=NOW), pods(), BOUNDS, SLO, a_model(), state, now=NOW + 2)
    assert later.after == 2


def test_it_sleeps_after_the_idle_time_and_wakes_when_asked() -> None:
    bounds = ReplicaBounds(minimum=1, maximum=20, idle_replicas=0, idle_after_seconds=900)
    before_time = replace(settled(), idle_since=NOW - 899)
    decision, state = decide_replicas(1, idle(1), pods(1), bounds, SLO, a_model(), before_time, now=NOW)
    assert decision.after == 1
    decision, state = decide_replicas(1, idle(1, at=NOW), pods(1), bounds, SLO, a_model(), state, now=NOW + 1)
    assert (decision.after, decision.reason) == (0, ReplicasReason.IDLE)
    decision, state = decide_replicas(0, idle(0), pods(0), bounds, SLO, a_model(), state, now=NOW + 2)
    assert (decision.after, decision.reason) == (0, ReplicasReason.ASLEEP)
    decision, state = decide_replicas(0, idle(0), pods(0, woken=True), bounds, SLO, a_model(), state, now=NOW + 3)
    assert (decision.after, decision.reason) == (1, ReplicasReason.WOKEN)


def test_without_idle_replicas_it_never_goes_below_the_minimum() -> None:
    state = replace(settled(), idle_since=NOW - 86400)
    decision, _ = decide_replicas(3, idle(), pods(), ReplicaBounds(2, 20), SLO, a_model(), state, now=NOW)
    assert (decision.after, decision.limit) == (2, ReplicasLimit.MIN_REPLICAS)


def test_one_decision_at_most_doubles_or_adds_four() -> None:
    flood = traffic(finish_rate=100.0)
    decision, _ = decide_replicas(3, flood, pods(), BOUNDS, SLO, of_two_requests_per_second(), settled(), now=NOW)
    assert (decision.wanted, decision.after, decision.limit) == (55, 7, ReplicasLimit.SCALE_UP_RATE)
