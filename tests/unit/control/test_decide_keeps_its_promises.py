"""What holds for all decisions together, over any course of signals, outages, policies and budgets."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shift_operator.api.policy import PolicyMode
from shift_operator.api.schedule import Degree
from shift_operator.api.signals import (
    CurvePoint,
    DeploymentKey,
    Instant,
    Known,
    Signals,
    SizeBucket,
    UnknownWhy,
    nothing_known,
    nothing_known_of_traffic,
)
from shift_operator.control.budget import Budget, NamespaceBudget
from shift_operator.control.decide import decide
from shift_operator.control.decision import Knob
from shift_operator.control.degree import DegreeBounds, DegreeLaw
from shift_operator.control.fallback import SpecValues
from shift_operator.control.inputs import (
    Deployment,
    DeploymentDecisions,
    Observed,
    PolicySettings,
    Profile,
    State,
)
from shift_operator.control.scaling import PodsSeen, ReplicaBounds
from shift_operator.control.threshold import ThresholdBounds

from tests.unit.control.replica_cases import NOW, SLO, traffic
from tests.unit.examples import examples

TP, SP4, MIXED = (Degree(sequence=sequence, tensor=4 // sequence) for sequence in (1, 4, 2))
FAST, SLOW = (CurvePoint(1, 0.008), CurvePoint(8192, 0.05)), (CurvePoint(1, 0.012), CurvePoint(8192, 0.08))
PROFILE = Profile({TP: SLOW, SP4: SLOW, MIXED: FAST}, {SP4: 400_000.0, MIXED: 400_000.0})
BUCKETS = [SizeBucket(7, 8, 900), SizeBucket(2047, 2048, 400)]
NOTHING = Observed(nothing_known(UnknownWhy.UNREACHABLE, ""), nothing_known_of_traffic(UnknownWhy.UNREACHABLE, ""))
MODES = st.sampled_from([PolicyMode.ENFORCE, PolicyMode.ENFORCE, PolicyMode.ADVISORY, PolicyMode.DISABLED])


@dataclass(frozen=True)
class Tick:
    """What one tick sees of each deployment: its requests per second, None where nothing is known of it."""

    seconds: int
    rates: tuple[float | None, ...]


deployments = st.lists(
    st.builds(
        lambda namespace, policy, degree, replicas, high: Deployment(
            key=DeploymentKey(namespace, ""),
            policy=policy,
            profile="m",
            degree=degree,
            threshold_tokens=512,
            replicas=replicas,
            pods=PodsSeen(ready=replicas),
            seen_gpus=4 * replicas,
            slo=SLO,
            threshold_bounds=ThresholdBounds(degree, 1, 1024),
            degree_bounds=DegreeBounds((SP4, MIXED), 1, 1024),
            replica_bounds=ReplicaBounds(1, high),
            spec=SpecValues(threshold_tokens=64, degree=SP4, replicas=2),
        ),
        st.sampled_from(["gold", "bronze"]),
        st.sampled_from(["one", "other"]),
        st.sampled_from([SP4, MIXED]),
        st.integers(1, 5),
        st.integers(5, 12),
    ),
    min_size=1,
    max_size=4,
).map(lambda found: [replace(d, key=d.key._replace(name=f"d{number}")) for number, d in enumerate(found)])

policies = st.fixed_dictionaries(
    {
        name: st.builds(
            lambda threshold, degree, replicas, most, gold, fallback: PolicySettings(
                threshold,
                degree,
                replicas,
                Budget(most, {"gold": NamespaceBudget(gold, 0, 2.0)}),
                degree=DegreeLaw(hold_seconds=120),
                fallback_after_seconds=fallback,
            ),
            MODES,
            MODES,
            MODES,
            st.sampled_from([None, 8, 24, 48]),
            st.sampled_from([None, 12]),
            st.sampled_from([None, 300.0]),
        )
        for name in ("one", "other")
    }
)

RATES = st.sampled_from([0.1, 0.1, 5.0, 40.0, 200.0, None])
courses = st.lists(
    st.tuples(
        st.builds(Tick, st.sampled_from([15, 60, 100]), st.tuples(RATES, RATES, RATES, RATES)),
        st.sampled_from([1, 1, 4]),
    ),
    min_size=1,
    max_size=5,
).map(lambda spells: [tick for tick, times in spells for _ in range(times)])


def seen_of(tick: Tick, present: list[Deployment], template: Signals, now: Instant) -> dict[DeploymentKey, Observed]:
    seen = {}
    for deployment, rate in zip(present, tick.rates, strict=False):
        if rate is None:
            seen[deployment.key] = NOTHING
            continue
        reporting = deployment.pods.ready
        fresh = {name: replace(s, at=now) for name, s in template if isinstance(s, Known)}
        signals = replace(template, **fresh)
        assert isinstance(signals.pods_reporting, Known)
        assert isinstance(signals.step_time, Known)
        signals = replace(
            signals,
            pods_reporting=replace(signals.pods_reporting, value=reporting),
            step_time=replace(signals.step_time, value=PROFILE.curves),
        )
        seen[deployment.key] = Observed(
            signals, traffic(at=now, finish_rate=rate, kv_usage=0.01, pods_reporting=reporting)
        )
    return seen


def carried_out(deployment: Deployment, made: DeploymentDecisions) -> Deployment:
    """As the controller does it, with pods that are ready at once."""
    if made.threshold and Knob.THRESHOLD in made.enforced:
        deployment = replace(deployment, threshold_tokens=made.threshold.after)
    if made.degree and Knob.DEGREE in made.enforced:
        sequence = made.degree.after
        degree = Degree(sequence=sequence, tensor=4 // sequence)
        bounds = ThresholdBounds(degree, 1, 1024)
        deployment = replace(deployment, degree=degree, threshold_bounds=bounds)
    if made.replicas and Knob.REPLICAS in made.enforced:
        replicas = made.replicas.after
        deployment = replace(deployment, replicas=replicas, pods=PodsSeen(ready=replicas), seen_gpus=4 * replicas)
    return deployment


@settings(max_examples=examples(120), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(present=deployments, policies=policies, course=courses)
def test_over_any_course_the_promises_hold(
    signals_of: Callable[..., Signals],
    present: list[Deployment],
    policies: Mapping[str, PolicySettings],
    course: list[Tick],
) -> None:
    template = signals_of(BUCKETS, lambda n: 0.01, lambda n: 0.01, max_batched_tokens=8192)
    state: State = {}
    now = NOW
    wishes: dict[DeploymentKey, list[tuple[Instant, int]]] = defaultdict(list)
    for tick in course:
        now += tick.seconds
        seen = seen_of(tick, present, template, now)
        decisions, after = decide(now, present, seen, {"m": PROFILE}, state, policies)
        again = decide(now, present[::-1], dict(reversed(seen.items())), {"m": PROFILE}, state, policies)
        assert again == (decisions, after), "equal inputs in another order gave other decisions"
        state = after
        changed_degrees = 0
        for deployment in present:
            made, policy = decisions[deployment.key], policies[deployment.policy or ""]
            modes = (policy.threshold_mode, policy.degree_mode, policy.replicas_mode)
            for decision, mode in zip((made.threshold, made.degree, made.replicas), modes, strict=True):
                assert (decision is None) == (mode is PolicyMode.DISABLED)
                assert (decision is not None and decision.knob in made.enforced) == (mode is PolicyMode.ENFORCE)
            changed_degrees += bool(made.degree and made.degree.moves and Knob.DEGREE in made.enforced)
            unknown = seen[deployment.key] is NOTHING
            fallback = policy.fallback_after_seconds is not None
            if unknown and not fallback:
                assert not any(d.moves for d in (made.threshold, made.degree, made.replicas) if d)
            if made.replicas is None:
                continue
            if made.replicas.wanted is not None:
                wishes[deployment.key].append((now, made.replicas.wanted))
            if made.replicas.after < deployment.replicas:
                assert not unknown, "replicas went down on unknown signals"
                highest = max(n for at, n in wishes[deployment.key] if at >= now - 300)
                assert made.replicas.after >= min(highest, 12, deployment.replicas)
        assert changed_degrees <= 1
        assert_budgets_hold(present, decisions, policies)
        present = [carried_out(deployment, decisions[deployment.key]) for deployment in present]


def assert_budgets_hold(
    present: list[Deployment],
    decisions: Mapping[DeploymentKey, DeploymentDecisions],
    policies: Mapping[str, PolicySettings],
) -> None:
    """Growth stays under each ceiling; what is held beyond one is not taken, and does not grow."""
    for name, policy in policies.items():
        for namespace in (None, "gold"):
            limit = policy.budget.max_gpus if namespace is None else policy.budget.namespaces["gold"].max_gpus
            if limit is None:
                continue
            held = wanted = 0
            for deployment in present:
                if deployment.policy == name and namespace in (None, deployment.key.namespace):
                    made = decisions[deployment.key].replicas
                    after = made.after if made else deployment.replicas
                    held += 4 * deployment.replicas
                    wanted += max(4 * after, deployment.seen_gpus)
            assert wanted <= max(limit, held)
