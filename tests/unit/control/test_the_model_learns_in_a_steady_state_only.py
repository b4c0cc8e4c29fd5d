"""The measured TPOT corrects the performance model, where it can be compared with what the model says."""

from dataclasses import replace

import pytest
from shift_operator.control.performance import Mix, predicted_tpot
from shift_operator.control.replicas import decide_replicas
from shift_operator.control.scaling import PodsSeen, ReplicaState

from tests.unit.control.replica_cases import BOUNDS, NOW, SLO, a_model, pods, settled, traffic

PREDICTED = predicted_tpot(a_model(), Mix.of(1000, 200, 0.0), 5.0 / 3) or 0.0
"""Seconds, at the rate of each of the three pods."""


def learned(looks: int, seen: PodsSeen | None = None, **other: object) -> ReplicaState:
    """The state after looks 15 s apart at pods that take half as long again as the model says."""
    state = settled()
    for number in range(looks):
        at = NOW + 15 * number
        load = traffic(at=at, **({"tpot_seconds": 1.5 * PREDICTED} | other))
        _, state = decide_replicas(3, load, seen or pods(), BOUNDS, SLO, a_model(), state, now=at)
    return state


def test_a_slower_machine_is_learned_within_minutes() -> None:
    assert learned(2).correction == pytest.approx(1.02, abs=0.01)  # one look's worth of a time constant of 300 s
    assert learned(80).correction == pytest.approx(1.5, abs=0.02)


@pytest.mark.parametrize(
    ("seen", "other"),
    [
        (pods(ready=2, starting=1), {"pods_reporting": 2}),
        (None, {"waiting": 3.0}),
        (None, {"pods_reporting": 2}),
        (None, {"finish_rate": 0.0}),
    ],
    ids=["a pod starts", "requests wait", "a pod does not report", "nothing finishes"],
)
def test_what_cannot_be_compared_teaches_nothing(seen: PodsSeen | None, other: dict[str, object]) -> None:
    assert learned(80, seen, **other).correction == 1


def test_the_time_in_which_nothing_could_be_compared_does_not_count() -> None:
    state = replace(learned(1), corrected_at=None)
    at = NOW + 3600
    load = traffic(at=at, tpot_seconds=1.5 * PREDICTED)
    _, state = decide_replicas(3, load, pods(), BOUNDS, SLO, a_model(), state, now=at)
    assert state.correction == 1
