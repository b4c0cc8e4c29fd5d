"""Unknown is not zero: nothing goes down on what is not known, and up only on what is."""

import pytest
from shift_operator.api.signals import TRAFFIC_SOURCES, Unknown, UnknownWhy, nothing_known_of_traffic
from shift_operator.control.fallback import Fallback
from shift_operator.control.load import REASON_OF_UNKNOWN
from shift_operator.control.reasons import ReplicasReason
from shift_operator.control.replicas import decide_replicas
from shift_operator.control.scaling import ReplicaBounds, ReplicaState

from tests.unit.control.replica_cases import BOUNDS, NOW, SLO, a_model, pods, settled, traffic

NEEDED = (
    "finish_rate",
    "in_system_slope",
    "span_counts",
    "prompt_tokens",
    "output_tokens",
    "running",
    "waiting",
    "kv_usage",
    "ttft",
    "tpot",
    "pods_reporting",
)


def test_with_all_signals_it_would_go_down() -> None:
    decision, _ = decide_replicas(3, traffic(), pods(), BOUNDS, SLO, a_model(), settled(), now=NOW)
    assert decision.after == 2


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("why", UnknownWhy)
def test_any_needed_signal_that_is_unknown_holds_and_is_named(name: str, why: UnknownWhy) -> None:
    missing = traffic(**{name: Unknown(why, TRAFFIC_SOURCES[name], "as it happened")})
    decision, state = decide_replicas(3, missing, pods(), BOUNDS, SLO, a_model(), settled(), now=NOW)
    assert (decision.after, decision.reason) == (3, REASON_OF_UNKNOWN[why])
    assert f"{TRAFFIC_SOURCES[name]} {why} (as it happened)" in str(decision)
    assert state.unknown_since == NOW


@pytest.mark.parametrize("name", sorted(TRAFFIC_SOURCES.keys() - set(NEEDED)))
def test_a_signal_that_the_law_can_do_without_may_be_missing(name: str) -> None:
    missing = traffic(**{name: Unknown(UnknownWhy.ABSENT, TRAFFIC_SOURCES[name])})
    decision, _ = decide_replicas(3, missing, pods(), BOUNDS, SLO, a_model(), settled(), now=NOW)
    assert decision.after == 2


def test_fewer_reporting_pods_than_ready_ones_hold() -> None:
    decision, _ = decide_replicas(3, traffic(pods_reporting=2), pods(), BOUNDS, SLO, a_model(), settled(), now=NOW)
    assert (decision.after, decision.reason) == (3, ReplicasReason.SIGNALS_PARTIAL)
    assert "2 of 3 ready" in str(decision)


def test_stale_signals_hold() -> None:
    decision, _ = decide_replicas(3, traffic(at=NOW - 61), pods(), BOUNDS, SLO, a_model(), settled(), now=NOW)
    assert (decision.after, decision.reason) == (3, ReplicasReason.SIGNALS_STALE)


def test_what_the_known_part_of_the_pods_already_needs_is_enough_to_go_up() -> None:
    """Two of three pods finish 60 requests a second; the third can only add to that."""
    decision, _ = decide_replicas(
        3, traffic(finish_rate=60.0, pods_reporting=2), pods(), BOUNDS, SLO, a_model(), settled(), now=NOW
    )
    assert decision.after == 3
    decision, _ = decide_replicas(
        2, traffic(finish_rate=60.0, pods_reporting=2), pods(), BOUNDS, SLO, a_model(), settled(), now=NOW
    )
    assert (decision.after, decision.reason) == (3, ReplicasReason.DEMAND)


def test_a_queue_is_answered_without_any_model() -> None:
    decision, _ = decide_replicas(3, traffic(waiting=20.0), pods(), BOUNDS, SLO, None, settled(), now=NOW)
    assert (decision.after, decision.reason) == (4, ReplicasReason.QUEUE_GROWS)
    decision, _ = decide_replicas(3, traffic(), pods(), BOUNDS, SLO, None, settled(), now=NOW)
    assert (decision.after, decision.reason) == (3, ReplicasReason.NO_PERFORMANCE_MODEL)


def test_thirty_minutes_without_prometheus_change_nothing() -> None:
    state: ReplicaState = settled()
    nothing = nothing_known_of_traffic(UnknownWhy.UNREACHABLE, "answered 503")
    for second in range(0, 1800, 15):
        decision, state = decide_replicas(3, nothing, pods(), BOUNDS, SLO, a_model(), state, now=NOW + second)
        assert (decision.after, decision.reason) == (3, ReplicasReason.PROMETHEUS_UNREACHABLE)


@pytest.mark.parametrize(("fallback", "after"), [(5, 5), (2, 3), (99, 7)])
def test_the_fallback_holds_after_its_time_and_never_lowers(fallback: int, after: int) -> None:
    """99 is cut to the four at a time that any decision may add."""
    last_resort = Fallback(fallback, after_seconds=900)
    nothing = nothing_known_of_traffic(UnknownWhy.UNREACHABLE, "")
    state = settled()
    for seconds in (0, 899):
        decision, state = decide_replicas(
            3, nothing, pods(), BOUNDS, SLO, a_model(), state, now=NOW + seconds, fallback=last_resort
        )
        assert decision.after == 3
    decision, _ = decide_replicas(
        3, nothing, pods(), BOUNDS, SLO, a_model(), state, now=NOW + 900, fallback=last_resort
    )
    assert decision.after == after
    assert decision.reason is (ReplicasReason.FALLBACK if after > 3 else ReplicasReason.PROMETHEUS_UNREACHABLE)


def test_the_bounds_are_kept_when_nothing_is_known() -> None:
    nothing = nothing_known_of_traffic(UnknownWhy.ABSENT, "")
    for before, after in ((9, 5), (1, 2)):
        decision, _ = decide_replicas(before, nothing, pods(), ReplicaBounds(2, 5), SLO, None, settled(), now=NOW)
        assert (decision.after, decision.reason) == (after, ReplicasReason.OUTSIDE_BOUNDS)
