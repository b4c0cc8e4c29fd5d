"""All laws at once: what becomes of every knob of every deployment. The controller calls this and nothing else.

The order is that of cost: thresholds, then degrees, one at a time in the cluster, then replicas, whose wishes each
policy's budget cuts. Equal inputs give equal decisions, in whatever order the deployments come.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from shift_operator.api.policy import PolicyMode
from shift_operator.api.schedule import Degree
from shift_operator.api.signals import (
    DeploymentKey,
    Instant,
    Known,
    Traffic,
    UnknownWhy,
    nothing_known,
    nothing_known_of_traffic,
)
from shift_operator.control.budget import BudgetAsk, Grant, share_budget
from shift_operator.control.curves import curve_through
from shift_operator.control.decision import Fact, Knob
from shift_operator.control.degree import REASONS_OF_UNKNOWN as DEGREE_DOUBT
from shift_operator.control.degree import DegreeDecision, DegreeState, KvMemory, decide_degree
from shift_operator.control.fallback import Fallback, fallen_back, unknown_since
from shift_operator.control.inputs import (
    Deployment,
    DeploymentDecisions,
    DeploymentState,
    Observed,
    PolicySettings,
    Profile,
    State,
)
from shift_operator.control.performance import PerfModel
from shift_operator.control.pooling import Pools
from shift_operator.control.reasons import DegreeReason, ThresholdReason
from shift_operator.control.replicas import ReplicasDecision, decide_replicas
from shift_operator.control.scaling import ReplicaState
from shift_operator.control.threshold import REASON_OF_UNKNOWN as THRESHOLD_DOUBT
from shift_operator.control.threshold import ThresholdDecision, decide_threshold

THRESHOLD_DOUBTS, DEGREE_DOUBTS = frozenset(THRESHOLD_DOUBT.values()), frozenset(DEGREE_DOUBT.values())

NOTHING = "Prometheus has no series of this deployment"
NOT_SEEN = Observed(nothing_known(UnknownWhy.ABSENT, NOTHING), nothing_known_of_traffic(UnknownWhy.ABSENT, NOTHING))
NEVER_SEEN, NO_PROFILE, NO_POLICY = DeploymentState(), Profile(), PolicySettings()


def decide(
    now: Instant,
    deployments: Iterable[Deployment],
    signals: Mapping[DeploymentKey, Observed],
    profiles: Mapping[str, Profile],
    state: State,
    policies: Mapping[str, PolicySettings],
) -> tuple[Mapping[DeploymentKey, DeploymentDecisions], State]:
    """The decisions, and the state to hand to the next call.

    `deployments` are all that the operator knows, those of which it may turn no knob too: they count in the budgets.
    A knob whose mode is Disabled gets no decision, and is watched anew once it is on again. One deployment without
    signals is decided on as unknown; one that is gone loses its state.
    """
    present = sorted(deployments, key=lambda deployment: deployment.key)
    cluster = _Cluster(now, present, signals, profiles, state, policies)
    decisions: dict[DeploymentKey, DeploymentDecisions] = {}
    after: dict[DeploymentKey, DeploymentState] = {}
    token_is_free = not any(deployment.degree_changes for deployment in present)
    for deployment in present:
        made, left = cluster.decide(deployment, degree_may_change=token_is_free)
        if made.degree is not None and made.degree.moves and Knob.DEGREE in made.enforced:
            token_is_free = False
        decisions[deployment.key], after[deployment.key] = made, left
    for key, grant in cluster.grants(decisions).items():
        wished = decisions[key].replicas
        if wished is not None and grant.replicas < wished.after:
            decisions[key] = replace(decisions[key], replicas=_cut(wished, grant))
            if grant.replicas <= wished.before:
                after[key] = replace(after[key], replicas=_not_raised(after[key].replicas, state.get(key)))
    return decisions, after


class _Cluster:
    """The inputs of one call, looked up by deployment."""

    def __init__(
        self,
        now: Instant,
        deployments: Sequence[Deployment],
        signals: Mapping[DeploymentKey, Observed],
        profiles: Mapping[str, Profile],
        state: State,
        policies: Mapping[str, PolicySettings],
    ) -> None:
        self._now, self._deployments, self._signals = now, deployments, signals
        self._profiles, self._state = profiles, state
        self._policies = {name: _watched_at_its_interval(policy) for name, policy in policies.items()}
        self._pools = Pools((d.profile, signals[d.key].signals) for d in deployments if d.profile and d.key in signals)

    def decide(self, deployment: Deployment, *, degree_may_change: bool) -> tuple[DeploymentDecisions, DeploymentState]:
        """All knobs of one deployment, its replicas before the budget."""
        policy = self._policy(deployment)
        kept = self._state.get(deployment.key, NEVER_SEEN).at(self._now, policy.gap_seconds)
        threshold, threshold_since = None, None
        degree, degree_state, degree_since = None, NEVER_SEEN.degree, None
        replicas, replica_state = None, None
        if policy.threshold_mode is not PolicyMode.DISABLED:
            threshold, threshold_since = self._threshold(deployment, kept, policy)
        if policy.degree_mode is not PolicyMode.DISABLED:
            degree, degree_state, degree_since = self._degree(deployment, kept, policy, may_change=degree_may_change)
            if degree is not None and degree.moves and policy.degree_mode is PolicyMode.ADVISORY:
                degree_state = replace(kept.degree, seen_at=self._now)  # nobody acts on it, so it stays the advice
        if policy.replicas_mode is PolicyMode.DISABLED:
            replica_state = kept.unwatched(self._now).replicas
        else:
            replicas, replica_state = self._replicas(deployment, kept, policy)
            if policy.replicas_mode is PolicyMode.ADVISORY:
                replica_state = _not_raised(replica_state, kept)
        made = DeploymentDecisions(policy.enforced, threshold, degree, replicas)
        return made, DeploymentState(replica_state, degree_state, self._now, threshold_since, degree_since)

    def _policy(self, deployment: Deployment) -> PolicySettings:
        """Its policy's settings; the defaults where it has none, or one that is not there."""
        return self._policies.get(deployment.policy or "", NO_POLICY)

    def _threshold(
        self, deployment: Deployment, kept: DeploymentState, policy: PolicySettings
    ) -> tuple[ThresholdDecision | None, Instant | None]:
        """On its own steps, or its profile's where they are too few; and since when its signals are unknown."""
        bounds, law = deployment.threshold_bounds, policy.threshold
        if bounds is None:
            return None, None
        seen = self._observed(deployment.key).signals
        seen, borrowed = self._pools.pooled(deployment.profile, seen, law.min_steps, self._now, law.max_age_seconds)
        decision = decide_threshold(
            deployment.threshold_tokens, seen, bounds, ready_pods=deployment.pods.ready, now=self._now, law=law
        )
        if borrowed:
            fact = Fact("pooled with", f"{borrowed} other deployments of profile {deployment.profile}")
            decision = replace(decision, evidence=(*decision.evidence, fact))
        since = unknown_since(decision, THRESHOLD_DOUBTS, kept.threshold_unknown_since, self._now)
        spec = deployment.spec
        fallback = self._fallback(policy, bounds.clamp(spec.threshold_tokens) if spec else None)
        return fallen_back(decision, fallback, since, self._now, ThresholdReason.FALLBACK), since

    def _degree(
        self, deployment: Deployment, kept: DeploymentState, policy: PolicySettings, *, may_change: bool
    ) -> tuple[DegreeDecision | None, DegreeState, Instant | None]:
        """With the KV memory that it uses now. And since when its signals are unknown."""
        if deployment.degree_bounds is None:
            return None, DegreeState(), None
        observed, profile = self._observed(deployment.key), self._profile(deployment)
        decision, state = decide_degree(
            deployment.degree,
            observed.signals,
            deployment.degree_bounds,
            _kv_memory(deployment, observed.traffic.as_of(self._now, policy.degree.max_age_seconds), profile),
            kept.degree,
            profile_curves=profile.curves,
            ready_pods=deployment.pods.ready,
            may_change=may_change,
            now=self._now,
            law=policy.degree,
        )
        since = unknown_since(decision, DEGREE_DOUBTS, kept.degree_unknown_since, self._now)
        spec = deployment.spec
        fallback = self._fallback(policy, spec.degree.sequence if spec and may_change else None)
        decision = fallen_back(decision, fallback, since, self._now, DegreeReason.FALLBACK)
        if decision.moves:
            target = Degree(sequence=decision.after, tensor=deployment.degree.gpus // decision.after)
            how = "live" if target in deployment.live_degrees else "by a rollout, the engines cannot take it live"
            decision = replace(decision, evidence=(*decision.evidence, Fact("takes effect", how)))
        return decision, state, since

    def _fallback(self, policy: PolicySettings, value: int | None) -> Fallback | None:
        if value is None or policy.fallback_after_seconds is None:
            return None
        return Fallback(value, policy.fallback_after_seconds)

    def _replicas(
        self, deployment: Deployment, kept: DeploymentState, policy: PolicySettings
    ) -> tuple[ReplicasDecision | None, ReplicaState | None]:
        """Before the budget."""
        if deployment.replica_bounds is None:
            return None, None
        return decide_replicas(
            deployment.replicas,
            self._observed(deployment.key).traffic,
            deployment.pods,
            deployment.replica_bounds,
            deployment.slo,
            self._model(deployment),
            kept.replicas or ReplicaState.fresh(self._now),
            now=self._now,
            law=policy.replicas,
            fallback=self._fallback(policy, deployment.spec.replicas if deployment.spec else None),
        )

    def grants(self, decisions: Mapping[DeploymentKey, DeploymentDecisions]) -> Mapping[DeploymentKey, Grant]:
        """What each policy's budget gives; a deployment without a decision on its replicas keeps what it holds."""
        asks: dict[str, list[BudgetAsk]] = {}
        for deployment in self._deployments:
            wish = decisions[deployment.key].replicas
            ask = BudgetAsk(
                key=deployment.key,
                held=deployment.replicas,
                wanted=wish.after if wish else deployment.replicas,
                gpus_per_replica=deployment.degree.gpus,
                seen_gpus=deployment.seen_gpus,
                terminating_gpus=deployment.terminating_gpus,
                weight=deployment.weight,
            )
            asks.setdefault(deployment.policy or "", []).append(ask)
        return {
            key: grant
            for policy, wishes in asks.items()
            for key, grant in share_budget(self._policies.get(policy, NO_POLICY).budget, wishes).items()
        }

    def _observed(self, key: DeploymentKey) -> Observed:
        return self._signals.get(key, NOT_SEEN)

    def _profile(self, deployment: Deployment) -> Profile:
        return self._profiles.get(deployment.profile or "", NO_PROFILE)

    def _model(self, deployment: Deployment) -> PerfModel | None:
        """The replica at its present degree and threshold; live curves before the profile's. None where
        a curve, the engine's limits or its KV cache are not known."""
        observed, profile, degree = self._observed(deployment.key), self._profile(deployment), deployment.degree
        signals, traffic = observed.signals, observed.traffic
        live = signals.step_time.value if isinstance(signals.step_time, Known) else {}
        curves = {**profile.curves, **live}
        small, large = (curve_through(curves.get(d, ())) for d in (degree.tensor_only, degree))
        if small is None or large is None:
            return None
        if not (isinstance(signals.max_batched_tokens, Known) and isinstance(signals.max_sequences, Known)):
            return None
        kv = profile.kv_capacity_tokens.get(degree)
        if isinstance(traffic.kv_capacity_tokens, Known):
            kv = traffic.kv_capacity_tokens.value
        if kv is None or kv <= 0:
            return None
        return PerfModel(
            small=small,
            large=large,
            threshold_tokens=deployment.threshold_tokens,
            max_batched_tokens=signals.max_batched_tokens.value,
            max_sequences=signals.max_sequences.value,
            kv_capacity_tokens=kv,
        )


def _watched_at_its_interval(policy: PolicySettings) -> PolicySettings:
    """The policy, whose degree law takes no look of its own interval for a gap."""
    gap_seconds = max(policy.degree.gap_seconds, policy.gap_seconds)
    return replace(policy, degree=replace(policy.degree, gap_seconds=gap_seconds))


def _kv_memory(deployment: Deployment, traffic: Traffic, profile: Profile) -> KvMemory:
    """What a pod's KV cache holds now, and at each degree. A degree that comes live leaves the cache as it is."""
    complete = isinstance(traffic.pods_reporting, Known) and traffic.pods_reporting.value >= deployment.pods.ready
    if not (complete and isinstance(traffic.kv_usage, Known) and isinstance(traffic.kv_capacity_tokens, Known)):
        return KvMemory(None, profile.kv_capacity_tokens)
    present = traffic.kv_capacity_tokens.value
    capacity = {**profile.kv_capacity_tokens, **dict.fromkeys(deployment.live_degrees, present)}
    return KvMemory(traffic.kv_usage.value * present, capacity)


def _cut(wished: ReplicasDecision, grant: Grant) -> ReplicasDecision:
    evidence = (*grant.evidence, *wished.evidence)
    return replace(wished, after=grant.replicas, limit=grant.limit, evidence=evidence)


def _not_raised(state: ReplicaState | None, before: DeploymentState | None) -> ReplicaState | None:
    """A wish that the budget cut, or that is only advised, is no step up for which the next one has to wait."""
    if state is None:
        return None
    earlier = before.replicas.raised_at if before and before.replicas else None
    return replace(state, raised_at=earlier)
