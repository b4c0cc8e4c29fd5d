"""A ClusterShiftPolicy and a ShiftProfile as the laws take them: plain numbers in seconds, tokens and GPUs."""

from collections.abc import Collection, Iterable

from shift_operator.api.policy import ClusterShiftPolicySpec, OnMissingMetrics, PolicyMode
from shift_operator.api.profile import ProfileSource, ShiftProfile
from shift_operator.api.shiftdeployment import ShiftDeploymentSpec
from shift_operator.api.signals import CurvePoint
from shift_operator.control.budget import Budget, NamespaceBudget
from shift_operator.control.degree import DegreeLaw
from shift_operator.control.inputs import PolicySettings, Profile
from shift_operator.control.scaling import ReplicaLaw
from shift_operator.control.threshold import LawSettings

_RANK = (PolicyMode.DISABLED, PolicyMode.ADVISORY, PolicyMode.ENFORCE)


def settings_of(spec: ClusterShiftPolicySpec) -> PolicySettings:
    """The policy's settings. A knob's mode is never more than the policy's, whatever the object says."""
    behavior, max_age = spec.behavior, float(spec.signals.max_age_seconds)
    after = spec.fallback_after_seconds if spec.on_missing_metrics is OnMissingMetrics.FALLBACK else None
    return PolicySettings(
        threshold_mode=_lesser(spec.mode, behavior.threshold.mode),
        degree_mode=_lesser(spec.mode, behavior.degree.mode),
        replicas_mode=_lesser(spec.mode, behavior.replicas.mode),
        budget=_budget(spec),
        threshold=LawSettings(min_gain_percent=behavior.threshold.min_gain_percent, max_age_seconds=max_age),
        degree=DegreeLaw(
            min_gain_percent=behavior.degree.min_gain_percent,
            hold_seconds=behavior.degree.hold_seconds,
            max_age_seconds=max_age,
        ),
        replicas=ReplicaLaw(
            stabilization_seconds=behavior.replicas.stabilization_seconds,
            max_age_seconds=max_age,
        ),
        fallback_after_seconds=None if after is None else float(after),
        interval_seconds=float(spec.interval_seconds),
    )


def _lesser(policy: PolicyMode, knob: PolicyMode | None) -> PolicyMode:
    return min(policy, knob or policy, key=_RANK.index)


def _budget(spec: ClusterShiftPolicySpec) -> Budget:
    if spec.budget is None:
        return Budget()
    return Budget(
        spec.budget.max_gpus,
        {
            share.namespace: NamespaceBudget(share.max_gpus, share.guaranteed_gpus, share.weight)
            for share in spec.budget.namespaces
        },
    )


def measured(profile: ShiftProfile) -> Profile:
    """What the profile says of its replicas."""
    return Profile(
        curves={
            curve.degree: tuple(CurvePoint(point.tokens, point.microseconds / 1e6) for point in curve.points)
            for curve in profile.spec.curves
        },
        kv_capacity_tokens={
            **{other.degree: float(other.kv_tokens) for other in profile.spec.other_degrees},
            profile.key.degree: float(profile.spec.kv_tokens),
        },
    )


def profile_of(
    spec: ShiftDeploymentSpec, profiles: Iterable[ShiftProfile], gpus: Collection[str]
) -> ShiftProfile | None:
    """The profile of a deployment's replicas; None where there is none, or where it cannot be told which.

    Model, revision, GPUs and degree must be the deployment's. `gpus`: the products that its pods run on, none where
    that is not known. Pods on several have none: the curves of another machine are worse than none. Of several engine
    versions the newest profile is taken, a user's before the operator's: curves measured live count before it anyway.
    """
    parallelism = spec.parallelism
    wanted = (spec.model.uri, spec.model.revision, parallelism.gpus_per_replica, parallelism.degree)
    fitting = [
        p
        for p in profiles
        if (p.key.model, p.key.revision, p.key.gpus_per_replica, p.key.degree) == wanted
        and (not gpus or p.key.gpu in gpus)
    ]
    if len({profile.key.gpu for profile in fitting}) != 1 or len(gpus) > 1:
        return None
    return max(fitting, key=lambda p: (p.spec.source is ProfileSource.USER, _created(p), p.name))


def _created(profile: ShiftProfile) -> float:
    created = profile.metadata.creation_timestamp
    return created.timestamp() if created else 0.0
