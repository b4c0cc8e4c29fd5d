"""ClusterShiftPolicy: what the operator may do to the deployments that it selects, and on which signals."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from shift_operator.api.base import API_VERSION, ApiType, LabelValue, MapKey, Rule, label_keys_rule, with_rules
from shift_operator.api.budget import Budget, Namespace
from shift_operator.api.metrics_source import MetricsSource
from shift_operator.api.policy_status import ClusterShiftPolicyStatus
from shift_operator.api.shiftdeployment import ObjectMeta, ShiftDeployment

KIND = "ClusterShiftPolicy"


class PolicyMode(StrEnum):
    ENFORCE = "Enforce"  # decisions are carried out
    ADVISORY = "Advisory"  # decisions are made and shown, nothing changes
    DISABLED = "Disabled"  # nothing is decided


class OnMissingMetrics(StrEnum):
    HOLD = "Hold"  # everything stays as it is for as long as it takes
    FALLBACK = "Fallback"  # after fallbackAfterSeconds the spec's threshold and degree, at least its replicas


class Selector(ApiType):
    """Which ShiftDeployments a policy is about: those in one of the namespaces that have all of the labels."""

    namespaces: Annotated[
        tuple[Namespace, ...], Field(max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = ()
    """Namespaces of the deployments. Default: all. Takes effect with the next decision. Example: [team-a, team-b]
    leaves the other namespaces to other policies."""

    labels: Annotated[
        dict[MapKey, LabelValue],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-map-type": "atomic", **with_rules(label_keys_rule("selector.labels"))},
        ),
    ] = Field(default={})
    """Labels that a deployment must have, all of them. Default: none. Takes effect with the next decision. Example:
    tier: batch gives the batch models of all teams a policy of their own."""


class SignalWindow(ApiType):
    """How much of the past counts, and how old a sample may be."""

    model_config = ConfigDict(
        json_schema_extra=with_rules(
            Rule(
                rule="self.maxAgeSeconds <= self.windowSeconds",
                message_expression=(
                    "'signals: maxAgeSeconds %d is above windowSeconds %d, so the window could be empty; lower "
                    "maxAgeSeconds or raise windowSeconds'.format([self.maxAgeSeconds, self.windowSeconds])"
                ),
                field=".maxAgeSeconds",
            )
        )
    )

    window_seconds: Annotated[int, Field(ge=20, le=3600)] = 120
    """The past over which steps and requests are counted. Unit: seconds. Default: {default}. Takes effect with the next
    decision. Example: 240 with a scrape interval of 60 s, since fewer than four samples make no rate. Longer is
    steadier and slower to see a change."""

    max_age_seconds: Annotated[int, Field(ge=5, le=3600)] = 60
    """Samples older than this are no signal: what needs them holds. Unit: seconds. Default: {default}. Takes effect
    with the next decision. Example: 180 with a scrape interval of 60 s tolerates two failed scrapes. At most
    windowSeconds."""


class ThresholdBehavior(ApiType):
    """How the switching threshold is moved, in deployments with shift.mode Auto."""

    mode: PolicyMode | None = None
    """What is done with decisions on the threshold. Default: the policy's mode. Takes effect with the next decision.
    Example: Disabled leaves every threshold where it is. Never more than the policy's mode."""

    min_gain_percent: Annotated[int, Field(ge=0, le=50)] = 2
    """The share of the observed step time that a move must save. Unit: percent. Default: {default}. Takes effect with
    the next decision. Example: 5 moves less often, where step times vary much from run to run."""


class DegreeBehavior(ApiType):
    """How the degree of large steps is changed, in deployments that leave it to the operator."""

    mode: PolicyMode | None = None
    """What is done with decisions on the degree. Default: the policy's mode. Takes effect with the next decision.
    Example: Advisory shows a better degree and leaves it to a person: outside Enforce the degree is the spec's. Never
    more than the policy's mode."""

    min_gain_percent: Annotated[int, Field(ge=1, le=90)] = 10
    """The share of the predicted step time that a change must save. Unit: percent. Default: {default}. Takes effect
    with the next decision. Example: 20 where a change costs a rollout with cold caches."""

    hold_seconds: Annotated[int, Field(ge=60, le=86_400)] = 1800
    """How long the gain must have lasted. Unit: seconds. Default: {default}. Takes effect with the next decision.
    Example: 7200 follows the day's traffic and not the hour's."""


class ReplicasBehavior(ApiType):
    """How the number of replicas is changed, in deployments whose scaling is the operator's."""

    mode: PolicyMode | None = None
    """What is done with decisions on replicas. Default: the policy's mode. Takes effect with the next decision.
    Example: Advisory in the first week shows what would have been done. Never more than the policy's mode."""

    stabilization_seconds: Annotated[int, Field(ge=0, le=3600)] = 300
    """Replicas never go below the most that was wanted within this time. Unit: seconds. Default: {default}. Takes
    effect with the next decision. Example: 900 where a replica takes ten minutes to start, so that a lull does not cost
    a cold start. Going up never waits."""


class Behavior(ApiType):
    """How each knob is turned."""

    threshold: ThresholdBehavior = ThresholdBehavior()
    """The switching threshold: seconds, and free."""

    degree: DegreeBehavior = DegreeBehavior()
    """The degree of large steps: live where the engine can, else a rollout."""

    replicas: ReplicasBehavior = ReplicasBehavior()
    """The number of replicas: minutes, and GPUs."""


def _within_mode(knob: str) -> Rule:
    """A knob may do less than its policy, not more: who reads `mode: Advisory` must be able to trust it."""
    mode = f"self.behavior.{knob}.mode"
    rank = "{'Disabled': 0, 'Advisory': 1, 'Enforce': 2}"
    return Rule(
        rule=f"!has({mode}) || {rank}[{mode}] <= {rank}[self.mode]",
        message_expression=(
            f"'behavior.{knob}.mode ' + {mode} + ' is more than the policy may do, its mode is ' + self.mode + "
            "'; raise mode and lower the other knobs, or remove it'"
        ),
        field=f".behavior.{knob}.mode",
    )


class ClusterShiftPolicySpec(ApiType):
    """Which deployments, on which signals, how far."""

    model_config = ConfigDict(
        json_schema_extra=with_rules(
            *(_within_mode(knob) for knob in ("threshold", "degree", "replicas")),
            Rule(
                rule="(self.onMissingMetrics == 'Fallback') == has(self.fallbackAfterSeconds)",
                message="onMissingMetrics and fallbackAfterSeconds go together: write onMissingMetrics: Fallback with "
                "fallbackAfterSeconds, or onMissingMetrics: Hold without",
                field=".onMissingMetrics",
            ),
            Rule(
                rule="self.intervalSeconds <= self.signals.windowSeconds",
                message_expression=(
                    "'intervalSeconds %d is above signals.windowSeconds %d, so traffic between two looks would go "
                    "unseen; lower it, or raise the window'.format([self.intervalSeconds, self.signals.windowSeconds])"
                ),
                field=".intervalSeconds",
            ),
            Rule(
                rule="!has(self.budget) || !has(self.budget.namespaces) || !has(self.selector)"
                " || !has(self.selector.namespaces)"
                " || self.budget.namespaces.all(n, n.__namespace__ in self.selector.namespaces)",
                message="budget.namespaces names a namespace that selector.namespaces leaves out; add it there, or "
                "remove its share",
                field=".budget.namespaces",
            ),
        )
    )

    selector: Selector = Selector()
    """Which ShiftDeployments the policy is about. Takes effect with the next decision. Where several policies select
    one, a single policy applies: one that names its namespace goes before one that does not, then the one with more
    labels, then the older one, then the one first by name."""

    mode: PolicyMode = PolicyMode.ENFORCE
    """What is done with decisions. Default: {default}. Takes effect with the next decision. Enforce carries them out;
    Advisory makes and shows them and changes nothing; Disabled decides nothing. Example: Advisory for a week
    before Enforce."""

    prometheus: MetricsSource | None = None
    """Where the signals come from. Default: the Prometheus of the operator's own flags. Takes effect with the next
    decision."""

    signals: SignalWindow = SignalWindow()
    """How much of the past counts, and how old a sample may be. Takes effect with the next decision."""

    interval_seconds: Annotated[int, Field(ge=1, le=3600)] = 15
    """Time between two looks at the signals, one query each for all deployments of the policy. Unit: seconds. Default:
    {default}. Takes effect with the next look. Example: 30 halves the load on Prometheus and doubles the time until a
    queue is seen. At most signals.windowSeconds."""

    behavior: Behavior = Behavior()
    """How each knob is turned. Takes effect with the next decision."""

    on_missing_metrics: OnMissingMetrics = OnMissingMetrics.HOLD
    """What happens while signals are missing, stale or partial. Default: {default}. Takes effect with the next
    decision. Hold changes nothing. Fallback does so until fallbackAfterSeconds are over, then sets threshold and degree
    to the spec's and raises replicas to spec.replicas where fewer run. Neither ever takes a replica away. Example:
    Fallback where spec.replicas is sized for the peak."""

    fallback_after_seconds: Annotated[int | None, Field(ge=60, le=86_400)] = None
    """How long signals must be missing before the fallback. Unit: seconds. Required with onMissingMetrics: Fallback.
    Takes effect with the next decision. Example: 600 outlasts a restart of Prometheus."""

    budget: Budget | None = None
    """How many GPUs the policy's deployments may hold. Default: no limit. Takes effect with the next decision: what
    already runs beyond it is not taken away, it only grows no more."""


class ClusterShiftPolicy(ApiType):
    """What the operator may do to the ShiftDeployments that it selects, on which signals, and with how many GPUs."""

    api_version: str = API_VERSION
    kind: str = KIND
    metadata: ObjectMeta
    spec: ClusterShiftPolicySpec
    status: ClusterShiftPolicyStatus | None = None

    @property
    def name(self) -> str:
        return self.metadata.name

    def selects(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Whether the policy is about a deployment of this namespace with these labels."""
        selector = self.spec.selector
        return (
            not selector.namespaces or namespace in selector.namespaces
        ) and selector.labels.items() <= labels.items()


def policy_of(deployment: ShiftDeployment, policies: Iterable[ClusterShiftPolicy]) -> ClusterShiftPolicy | None:
    """The one policy that applies to a deployment, whatever the order of `policies`; None where none selects it.

    A policy in mode Disabled applies like any other: it is how a few deployments are left alone within a wider policy.
    """
    selecting = [p for p in policies if p.selects(deployment.namespace, deployment.metadata.labels)]
    return min(selecting, key=_precedence, default=None)


_NOT_YET_CREATED = datetime.max.replace(tzinfo=UTC)


def _precedence(policy: ClusterShiftPolicy) -> tuple[bool, int, datetime, str]:
    """Sorts the policy that goes first to the front."""
    selector = policy.spec.selector
    created = policy.metadata.creation_timestamp or _NOT_YET_CREATED
    return (not selector.namespaces, -len(selector.labels), created, policy.name)
