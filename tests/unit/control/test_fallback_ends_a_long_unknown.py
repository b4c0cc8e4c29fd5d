"""A policy may say where the knobs go when their signals stay unknown; until then, and without it, they hold."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from shift_operator.api.policy import PolicyMode
from shift_operator.api.schedule import Degree
from shift_operator.api.signals import Known, Signals
from shift_operator.control.decide import decide
from shift_operator.control.degree import DegreeBounds
from shift_operator.control.fallback import SpecValues
from shift_operator.control.inputs import (
    Deployment,
    DeploymentDecisions,
    DeploymentState,
    Observed,
    PolicySettings,
    State,
)
from shift_operator.control.reasons import DegreeReason, ReplicasReason, ThresholdReason
from shift_operator.control.threshold import ThresholdBounds

from tests.unit.control.replica_cases import NOW, settled, traffic
from tests.unit.control.test_decide_composes_the_laws import BUSY, FAST_STEPS, PROFILE, a_deployment

SP4, MIXED = Degree(sequence=4, tensor=1), Degree(sequence=2, tensor=2)
SPEC = SpecValues(threshold_tokens=512, degree=SP4, replicas=5)
AFTER_15_MINUTES = PolicySettings(fallback_after_seconds=900)
HOLD = PolicySettings()


def chat(**other: object) -> Deployment:
    """All three knobs are the operator's, and stand elsewhere than in the spec."""
    return a_deployment(
        "chat",
        **{
            "degree": MIXED,
            "threshold_bounds": ThresholdBounds(MIXED, 1, 1024),
            "degree_bounds": DegreeBounds((SP4, MIXED), 1, 1024),
            "spec": SPEC,
        }
        | other,
    )


def watch(
    deployment: Deployment, seconds: int, policy: PolicySettings, state: State, seen: Observed | None = None
) -> tuple[DeploymentDecisions, State]:
    """The last of the looks of so many seconds, one a minute; nothing is carried out."""
    for passed in range(0, seconds + 60, 60):
        signals = {deployment.key: seen} if seen else {}
        decisions, state = decide(NOW + passed, [deployment], signals, {}, state, {"default": policy})
    return decisions[deployment.key], state


def after(made: DeploymentDecisions) -> tuple[int, int, int]:
    assert made.threshold is not None
    assert made.degree is not None
    assert made.replicas is not None
    return made.threshold.after, made.degree.after, made.replicas.after


def test_after_its_time_threshold_and_degree_are_the_specs_and_the_replicas_no_fewer() -> None:
    before, _ = watch(chat(), 840, AFTER_15_MINUTES, {})
    assert after(before) == (4, 2, 3)
    made, _ = watch(chat(), 900, AFTER_15_MINUTES, {})
    assert after(made) == (512, 4, 5)
    assert made.threshold is not None
    assert made.degree is not None
    assert made.replicas is not None
    assert made.threshold.reason is ThresholdReason.FALLBACK
    assert made.degree.reason is DegreeReason.FALLBACK
    assert made.replicas.reason is ReplicasReason.FALLBACK
    assert "unknown for 900 s" in str(made.threshold)


def test_without_a_fallback_it_holds_for_as_long_as_it_takes() -> None:
    made, _ = watch(chat(), 7200, HOLD, {})
    assert after(made) == (4, 2, 3)


def test_at_the_specs_values_there_is_nothing_to_fall_back_to() -> None:
    there = chat(threshold_tokens=512, degree=SP4, replicas=6, threshold_bounds=ThresholdBounds(SP4, 1, 1024))
    made, _ = watch(there, 1800, AFTER_15_MINUTES, {})
    assert after(made) == (512, 4, 6)
    assert made.threshold is not None
    assert made.threshold.reason is ThresholdReason.SIGNALS_MISSING


def test_the_range_has_the_last_word() -> None:
    narrowed = chat(threshold_bounds=ThresholdBounds(MIXED, 1, 256), threshold_tokens=100)
    assert after(watch(narrowed, 900, AFTER_15_MINUTES, {})[0])[0] == 256


def seen_at(now: float, signals_of: Callable[..., Signals], **other: object) -> Observed:
    """Three pods that report everything."""
    known = signals_of(BUSY, *FAST_STEPS, pods_reporting=Known(3, NOW, "shift_max_batched_tokens"))
    fresh = {name: replace(signal, at=now) for name, signal in known if isinstance(signal, Known)}
    return Observed(replace(known, **fresh), traffic(at=now, **other))


def test_one_look_with_signals_begins_the_time_anew(signals_of: Callable[..., Signals]) -> None:
    deployment = a_deployment("chat", spec=SPEC)
    key, policies = deployment.key, {"default": AFTER_15_MINUTES}
    _, state = watch(deployment, 840, AFTER_15_MINUTES, {})
    known = {key: seen_at(NOW + 900, signals_of)}
    _, state = decide(NOW + 900, [deployment], known, {"m": PROFILE}, state, policies)
    reasons = []
    for passed in range(960, 1920, 60):
        decisions, state = decide(NOW + passed, [deployment], {}, {}, state, policies)
        threshold = decisions[key].threshold
        assert threshold is not None
        reasons.append(threshold.reason)
    assert reasons == [ThresholdReason.SIGNALS_MISSING] * 15 + [ThresholdReason.FALLBACK]


def test_a_time_in_which_nobody_looked_does_not_count() -> None:
    """An operator that was away for an hour does not know what the signals were: its first failed look is the first."""
    _, state = watch(chat(), 840, AFTER_15_MINUTES, {})
    decisions, _ = decide(NOW + 840 + 3600, [chat()], {}, {}, state, {"default": AFTER_15_MINUTES})
    assert after(decisions[chat().key]) == (4, 2, 3)


@pytest.mark.parametrize(("away_seconds", "replicas"), [(15, 1), (3600, 3)])
def test_replicas_are_not_lowered_on_a_window_that_nobody_watched(
    signals_of: Callable[..., Signals], away_seconds: int, replicas: int
) -> None:
    """Next to no traffic: one replica would do, unless nobody knows what was wanted in the last five minutes."""
    deployment = a_deployment("chat")
    before = {deployment.key: DeploymentState(settled(), looked_at=NOW - away_seconds)}
    quiet = {deployment.key: seen_at(NOW, signals_of, finish_rate=0.001, kv_usage=0.01)}
    decisions, _ = decide(NOW, [deployment], quiet, {"m": PROFILE}, before, {})
    made = decisions[deployment.key].replicas
    assert made is not None
    assert made.after == replicas


def test_two_degrees_fall_back_one_after_the_other() -> None:
    pair = [replace(chat(), key=chat().key._replace(name=name)) for name in ("a", "b")]
    state: State = {}
    for passed in range(0, 960, 60):
        decisions, state = decide(NOW + passed, pair, {}, {}, state, {"default": AFTER_15_MINUTES})
    moved = [made.degree.moves for _, made in sorted(decisions.items()) if made.degree]
    assert moved == [True, False]
    changed = replace(pair[0], degree=SP4)
    decisions, _ = decide(NOW + 960, [changed, pair[1]], {}, {}, state, {"default": AFTER_15_MINUTES})
    assert [made.degree.moves for _, made in sorted(decisions.items()) if made.degree] == [False, True]


def test_an_advised_fallback_stays_advice() -> None:
    policy = replace(AFTER_15_MINUTES, threshold_mode=PolicyMode.ADVISORY)
    made, state = watch(chat(), 900, policy, {})
    again, _ = decide(NOW + 960, [chat()], {}, {}, state, {"default": policy})
    for advice in (made, again[chat().key]):
        assert after(advice)[0] == 512
        assert advice.enforced == PolicySettings(threshold_mode=PolicyMode.ADVISORY).enforced
