"""A pod that does not get ready is on its way for a while, and then no more: what it was to take is asked for again."""

import pytest
from shift_operator.api.signals import Attainment
from shift_operator.control.performance import Mix, capacity
from shift_operator.control.replicas import ReplicasDecision, decide_replicas
from shift_operator.control.scaling import PodsSeen, ReplicaBounds

from tests.unit.control.replica_cases import BOUNDS, NOW, SLO, a_model, settled, traffic

CAPACITY = capacity(a_model(), Mix.of(1000, 200, 0), SLO).requests_per_second
MISSED = Attainment(100, 300, 0.05)


def decide(before: int, pods: PodsSeen, model: bool = True, **signals: object) -> ReplicasDecision:
    seen = traffic(pods_reporting=pods.ready, **signals)
    return decide_replicas(before, seen, pods, BOUNDS, SLO, a_model() if model else None, settled(), now=NOW)[0]


@pytest.mark.parametrize(
    ("ages", "start_seconds", "starting", "late"),
    [
        ([10, 599], 60, 2, 0),
        ([10, 601], 60, 1, 1),
        ([601, 1200, 1201], 400, 2, 1),
        ([], 60, 0, 0),
    ],
)
def test_a_pod_is_late_after_ten_minutes_and_three_times_the_usual(
    ages: list[float], start_seconds: float, starting: int, late: int
) -> None:
    seen = PodsSeen.of(2, ages, start_seconds=start_seconds)
    assert (seen.ready, seen.starting, seen.late) == (2, starting, late)


def test_what_is_on_its_way_is_not_asked_for_again() -> None:
    assert not decide(4, PodsSeen(ready=3, starting=1), tpot=MISSED, running=60.0).moves
    assert not decide(4, PodsSeen(ready=3), tpot=MISSED, running=60.0).moves, "its pod is not even made yet"
    assert not decide(4, PodsSeen(ready=3, starting=1), model=False, waiting=500.0).moves


def test_for_a_late_pod_one_replica_stands_in() -> None:
    late = PodsSeen(ready=3, late=1)
    assert decide(4, late, tpot=MISSED, running=60.0).after == 5
    assert decide(4, late, model=False, waiting=500.0).after == 5


def test_several_late_pods_are_the_images_fault_and_get_no_more() -> None:
    """Else a bad image would raise the replicas to the maximum, ten minutes apart."""
    late = PodsSeen(ready=3, late=2)
    assert not decide(5, late, tpot=MISSED, running=60.0).moves
    assert not decide(5, late, model=False, waiting=500.0).moves


def test_where_no_node_takes_a_pod_another_would_not_help() -> None:
    unplaced = PodsSeen(ready=3, unplaced=1)
    assert not decide(4, unplaced, tpot=MISSED, running=60.0).moves
    assert not decide(4, unplaced, model=False, waiting=500.0).moves


def test_demand_is_met_by_pods_that_work() -> None:
    """Four are needed; with one of four late a fifth is asked for, and once that works nothing more."""
    rate = 3.5 / 1.1 * CAPACITY
    assert decide(4, PodsSeen(ready=4), finish_rate=rate).wanted == 4
    assert decide(4, PodsSeen(ready=3, late=1), finish_rate=rate).after == 5
    assert not decide(5, PodsSeen(ready=4, late=1), finish_rate=rate).moves


def test_going_down_counts_the_ready_ones_only() -> None:
    """Three of ten serve, the others start: the demand that three see is not what ten would leave to five."""
    few = PodsSeen(ready=3, starting=7)
    rate = 3 * CAPACITY * 0.95
    decision = decide_replicas(
        10, traffic(pods_reporting=3, finish_rate=rate), few, ReplicaBounds(1, 20), SLO, a_model(), settled(), now=NOW
    )[0]
    assert decision.after == 10
    assert "at 3 ready replicas" in str(decision)
