"""One call decides on every knob of every deployment, under each one's policy."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from shift_operator.api.policy import PolicyMode
from shift_operator.api.schedule import Degree
from shift_operator.api.signals import CurvePoint, DeploymentKey, Known, Signals, SizeBucket, Unknown, UnknownWhy
from shift_operator.control.budget import Budget
from shift_operator.control.decide import decide
from shift_operator.control.decision import Knob
from shift_operator.control.degree import DegreeBounds, DegreeState
from shift_operator.control.inputs import (
    Deployment,
    DeploymentState,
    Observed,
    PolicySettings,
    Profile,
    State,
)
from shift_operator.control.reasons import DegreeReason, ReplicasLimit, ReplicasReason, ThresholdReason
from shift_operator.control.replicas import ReplicasDecision
from shift_operator.control.scaling import PodsSeen, ReplicaBounds
from shift_operator.control.threshold import ThresholdBounds

from tests.unit.control.replica_cases import NOW, SLO, settled, traffic

SP = Degree(sequence=2, tensor=1)
FAST_STEPS = (lambda n: 0.004 + 10e-6 * n, lambda n: 0.008 + 5e-6 * n)
BUSY = [SizeBucket(7, 8, 900), SizeBucket(2047, 2048, 100)]
PROFILE = Profile(kv_capacity_tokens={SP: 400_000.0})


def a_deployment(name: str, **other: object) -> Deployment:
    """Managed in threshold and replicas: 3 replicas of 2 GPUs, threshold 4, all ready."""
    plain = Deployment(
        key=DeploymentKey("prod", name),
        policy="default",
        profile="m",
        degree=SP,
        threshold_tokens=4,
        replicas=3,
        pods=PodsSeen(ready=3),
        seen_gpus=6,
        slo=SLO,
        threshold_bounds=ThresholdBounds(SP, 1, 1024),
        replica_bounds=ReplicaBounds(1, 20),
    )
    return replace(plain, **other)  # type: ignore[arg-type]


@pytest.fixture
def busy(signals_of: Callable[..., Signals]) -> Signals:
    """Steps on which a threshold of 4 moves to 800."""
    seen = signals_of(BUSY, *FAST_STEPS)
    assert isinstance(seen.pods_reporting, Known)
    return replace(seen, pods_reporting=replace(seen.pods_reporting, value=3))


def in_need(signals: Signals) -> Observed:
    """More arrives than 3 replicas take."""
    return Observed(signals, traffic(finish_rate=400.0))


def settled_state(*deployments: Deployment) -> State:
    return {d.key: DeploymentState(settled()) for d in deployments}


def test_each_knob_is_decided_by_its_law(busy: Signals) -> None:
    chat = a_deployment("chat")
    decisions, state = decide(
        NOW, [chat], {chat.key: in_need(busy)}, {"m": PROFILE}, settled_state(chat), {"default": PolicySettings()}
    )
    made = decisions[chat.key]
    assert made.enforced == set(Knob)
    assert made.threshold is not None
    assert made.threshold.after == 800
    assert made.replicas is not None
    assert (made.replicas.after, made.replicas.reason) == (7, ReplicasReason.DEMAND)
    assert made.degree is None
    kept = state[chat.key].replicas
    assert kept is not None
    assert kept.raised_at == NOW


def test_an_engine_that_serves_fewer_at_once_takes_more_replicas(busy: Signals) -> None:
    """The engine's own max_num_seqs counts; where it does not tell, there is no model to go down by."""
    chat = a_deployment("chat")

    def decided(max_sequences: Known[int] | Unknown) -> ReplicasDecision:
        seen = Observed(replace(busy, max_sequences=max_sequences), traffic(finish_rate=40.0))
        made, _ = decide(NOW, [chat], {chat.key: seen}, {"m": PROFILE}, settled_state(chat), {})
        replicas = made[chat.key].replicas
        assert replicas is not None
        return replicas

    of_256, of_16 = (decided(Known(at_once, NOW, "shift_max_sequences")) for at_once in (256, 16))
    assert of_256.wanted is not None
    assert of_16.wanted is not None
    assert of_256.wanted < of_16.wanted
    assert "bound by Sequences" in str(of_16)
    unknown = decided(Unknown(UnknownWhy.ABSENT, "shift_max_sequences"))
    assert (unknown.after, unknown.reason) == (3, ReplicasReason.NO_PERFORMANCE_MODEL)


def test_a_knob_that_is_the_users_is_left_alone(busy: Signals) -> None:
    chat = a_deployment("chat", threshold_bounds=None, replica_bounds=None)
    decisions, _ = decide(NOW, [chat], {chat.key: in_need(busy)}, {"m": PROFILE}, {}, {})
    made = decisions[chat.key]
    assert (made.threshold, made.degree, made.replicas) == (None, None, None)


def test_the_budget_cuts_what_the_law_wants_and_says_so(busy: Signals) -> None:
    chat, fixed = a_deployment("chat"), a_deployment("fixed", replica_bounds=None)
    policies = {"default": PolicySettings(budget=Budget(16))}
    seen = {d.key: in_need(busy) for d in (chat, fixed)}
    decisions, _ = decide(NOW, [chat, fixed], seen, {"m": PROFILE}, settled_state(chat, fixed), policies)
    made = decisions[chat.key].replicas
    assert made is not None
    # 16 GPUs, of which the one that never scales holds 6: 10 are left, for 5 replicas of 2.
    assert (made.after, made.limit, made.reason) == (5, ReplicasLimit.CLUSTER_BUDGET, ReplicasReason.DEMAND)
    assert "16 of 16 in use" in str(made)


def test_a_wish_that_is_only_advised_was_no_step_up(busy: Signals) -> None:
    """Else its time would be new at every look, and each look would write a status."""
    chat = a_deployment("chat")
    policies = {"default": PolicySettings(replicas_mode=PolicyMode.ADVISORY)}
    decisions, state = decide(NOW, [chat], {chat.key: in_need(busy)}, {"m": PROFILE}, settled_state(chat), policies)
    made, kept = decisions[chat.key].replicas, state[chat.key].replicas
    assert made is not None
    assert kept is not None
    assert (made.after, kept.raised_at) == (7, None)


def test_a_wish_that_the_budget_cut_to_nothing_was_no_step_up(busy: Signals) -> None:
    chat = a_deployment("chat")
    policies = {"default": PolicySettings(budget=Budget(6))}
    decisions, state = decide(NOW, [chat], {chat.key: in_need(busy)}, {"m": PROFILE}, settled_state(chat), policies)
    made, kept = decisions[chat.key].replicas, state[chat.key].replicas
    assert made is not None
    assert not made.moves
    assert kept is not None
    assert kept.raised_at is None


def test_each_knob_has_its_own_mode(busy: Signals) -> None:
    """Replicas are advised on, thresholds enforced, degrees left alone."""
    chat = a_deployment("chat", degree_bounds=DegreeBounds((SP,), 1, 1024))
    policy = PolicySettings(replicas_mode=PolicyMode.ADVISORY, degree_mode=PolicyMode.DISABLED)
    seen = {chat.key: in_need(busy)}
    made = decide(NOW, [chat], seen, {"m": PROFILE}, settled_state(chat), {"default": policy})[0][chat.key]
    assert made.enforced == {Knob.THRESHOLD}
    assert made.replicas is not None
    assert made.replicas.after == 7
    assert made.degree is None


def test_a_disabled_policy_decides_nothing_and_watches_anew_when_it_is_on_again(busy: Signals) -> None:
    chat, off = a_deployment("chat"), PolicyMode.DISABLED
    before, policies = settled_state(chat), {"default": PolicySettings(off, off, off)}
    decisions, state = decide(NOW, [chat], {chat.key: in_need(busy)}, {"m": PROFILE}, before, policies)
    made = decisions[chat.key]
    assert (made.enforced, made.threshold, made.degree, made.replicas) == (frozenset(), None, None, None)
    kept = state[chat.key].replicas
    assert kept is not None
    assert kept.window.since == NOW


def test_a_deployment_without_series_is_held(busy: Signals) -> None:
    chat = a_deployment("chat")
    made = decide(NOW, [chat], {}, {"m": PROFILE}, settled_state(chat), {})[0][chat.key]
    assert made.threshold is not None
    assert (made.threshold.moves, made.threshold.reason) == (False, ThresholdReason.SIGNALS_MISSING)
    assert made.replicas is not None
    assert (made.replicas.moves, made.replicas.reason) == (False, ReplicasReason.SIGNALS_MISSING)


def test_one_with_too_few_steps_borrows_those_of_its_profile(busy: Signals, signals_of: Callable[..., Signals]) -> None:
    quiet = signals_of(
        [SizeBucket(7, 8, 3), SizeBucket(2047, 2048, 0)], *FAST_STEPS, pods_reporting=busy.pods_reporting
    )
    chat, twin, stranger = a_deployment("chat"), a_deployment("twin"), a_deployment("stranger", profile="other")
    for others, after in (([twin], 800), ([stranger], 4)):
        seen = {chat.key: Observed(quiet, traffic())} | {d.key: Observed(busy, traffic()) for d in others}
        made = decide(NOW, [chat, *others], seen, {}, {}, {})[0][chat.key].threshold
        assert made is not None
        assert made.after == after
        assert ("pooled with 1 other deployments of profile m" in str(made)) == (after == 800)


def test_two_ripe_degrees_change_one_after_the_other(busy: Signals) -> None:
    tp, sp4, mixed = Degree(sequence=1, tensor=4), Degree(sequence=4, tensor=1), Degree(sequence=2, tensor=2)
    slow, fast = (CurvePoint(1, 0.02), CurvePoint(2048, 0.04)), (CurvePoint(1, 0.01), CurvePoint(2048, 0.02))
    profile = Profile({tp: slow, sp4: slow, mixed: fast}, {sp4: 400_000.0, mixed: 400_000.0})
    ripe = DegreeState(((mixed, NOW - 1800),), NOW - 15)
    both = [
        a_deployment(name, degree=sp4, degree_bounds=DegreeBounds((sp4, mixed), 1, 1024), threshold_bounds=None)
        for name in ("a", "b")
    ]
    seen = {d.key: Observed(busy, traffic()) for d in both}
    state = {d.key: DeploymentState(settled(), ripe) for d in both}

    def degrees(*deployments: Deployment) -> list[DegreeReason | None]:
        decisions, _ = decide(NOW, deployments, seen, {"m": profile}, state, {})
        return [made.degree.reason if made.degree else None for _, made in sorted(decisions.items())]

    assert degrees(*both) == [DegreeReason.LESS_STEP_TIME, DegreeReason.ANOTHER_CHANGES]
    assert degrees(*both[::-1]) == [DegreeReason.LESS_STEP_TIME, DegreeReason.ANOTHER_CHANGES]
    changing = replace(both[0], degree=mixed, degree_changes=True)
    assert degrees(changing, both[1]) == [DegreeReason.BEST_ALREADY, DegreeReason.ANOTHER_CHANGES]


@pytest.mark.parametrize(
    ("live", "tokens", "reason"),
    [
        (False, 200_000, DegreeReason.LESS_STEP_TIME),  # 30 % of 400,000 tokens are in use, at most 80 % may be
        (False, 140_000, DegreeReason.KV_CACHE_TOO_SMALL),
        (False, None, DegreeReason.KV_CACHE_TOO_SMALL),
        (True, 140_000, DegreeReason.LESS_STEP_TIME),
    ],
    ids=["it holds what is in use", "it does not", "nobody knows", "it comes live, over the same cache"],
)
def test_a_degree_that_takes_a_rollout_must_hold_the_kv_in_use(
    busy: Signals, live: bool, tokens: int | None, reason: DegreeReason
) -> None:
    tp, sp4, mixed = Degree(sequence=1, tensor=4), Degree(sequence=4, tensor=1), Degree(sequence=2, tensor=2)
    slow, fast = (CurvePoint(1, 0.02), CurvePoint(2048, 0.04)), (CurvePoint(1, 0.01), CurvePoint(2048, 0.02))
    profile = Profile({tp: slow, sp4: fast, mixed: slow}, {mixed: 400_000.0} | ({sp4: float(tokens)} if tokens else {}))
    chat = a_deployment(
        "chat",
        degree=mixed,
        degree_bounds=DegreeBounds((sp4, mixed), 1, 1024),
        live_degrees=frozenset({mixed, sp4} if live else {mixed}),
    )
    state = {chat.key: DeploymentState(settled(), DegreeState(((sp4, NOW - 1800),), NOW - 15))}
    made, _ = decide(NOW, [chat], {chat.key: Observed(busy, traffic())}, {"m": profile}, state, {})
    degree = made[chat.key].degree
    assert degree is not None
    assert degree.reason is reason
    assert degree.moves == (reason is DegreeReason.LESS_STEP_TIME)


def test_the_state_of_a_deployment_that_is_gone_goes_with_it(busy: Signals) -> None:
    chat, gone = a_deployment("chat"), a_deployment("gone")
    _, state = decide(NOW, [chat], {chat.key: in_need(busy)}, {}, settled_state(chat, gone), {})
    assert set(state) == {chat.key}
