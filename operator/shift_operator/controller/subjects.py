"""What the decision loop decides on: deployments as the cache shows them, put into the laws' own terms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from shift_operator.api.policy import policy_of
from shift_operator.api.profile import ShiftProfile
from shift_operator.api.scaling import ScalingMode
from shift_operator.api.schedule import Degree
from shift_operator.api.shift import ShiftMode
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.api.signals import DeploymentKey, Instant
from shift_operator.api.status import DecisionOutcome
from shift_operator.cluster.client import Body
from shift_operator.control.decision import Knob
from shift_operator.control.degree import DegreeBounds
from shift_operator.control.fallback import SpecValues
from shift_operator.control.guidance import profile_of
from shift_operator.control.inputs import Deployment
from shift_operator.control.performance import Slo
from shift_operator.control.scaling import PodsSeen, ReplicaBounds
from shift_operator.control.threshold import ThresholdBounds
from shift_operator.controller.decisions import Standing
from shift_operator.controller.observe import Observer
from shift_operator.controller.optional_kinds import Sight
from shift_operator.controller.policies import BUILT_IN, Guidance
from shift_operator.planning.degree import first_degree, started_with
from shift_operator.planning.groups import gpus_held, serving
from shift_operator.planning.pods import has_ended, is_ending, is_ready, unschedulable
from shift_operator.planning.policy import Guided, relies_on_another
from shift_operator.planning.replicas import wanted_replicas
from shift_operator.planning.rollback import degree_gone_back_to


@dataclass(frozen=True)
class Subject:
    """A deployment to decide on, as it is now. `child`: its Deployment, None where there is none yet."""

    key: DeploymentKey
    deployment: ShiftDeployment
    guided: Guided
    pods: Sequence[Body] = ()
    child: Body | None = None
    profile: ShiftProfile | None = None

    @property
    def holding(self) -> list[Body]:
        """One pod of each replica that holds its GPUs: those that ended do not."""
        return [pod for pod in serving(self.pods) if not has_ended(pod)]

    @property
    def gpus(self) -> int:
        """The GPUs that its pods hold, those of pods that are ending included."""
        return gpus_held(self.pods, self.deployment.spec.parallelism.gpus_per_replica)

    @property
    def terminating_gpus(self) -> int:
        """Those of pods that are ending."""
        return gpus_held(filter(is_ending, self.pods), self.deployment.spec.parallelism.gpus_per_replica)

    @property
    def ready_pods(self) -> int:
        """Pods that serve."""
        return sum(map(is_ready, serving(self.pods)))


class Subjects:
    """Every deployment, under the policy that applies to it and with the profile of its replicas."""

    def __init__(self, observer: Observer, guidance: Guidance) -> None:
        self._observer = observer
        self._guidance = guidance

    def __call__(self) -> Iterator[Subject]:
        policies, profiles, modes = self._guidance.policies(), self._guidance.profiles(), self._guidance.in_force()
        hidden = HIDDEN.get(self._guidance.sight)
        for key, seen in self._observer.all():
            policy = policy_of(seen.deployment, policies)
            settings = modes[policy.name if policy else BUILT_IN].settings
            guided = Guided(
                policy.name if policy else None,
                settings.threshold_mode,
                settings.degree_mode,
                settings.replicas_mode,
                hidden,
            )
            profile = (
                profile_of(seen.deployment.spec, profiles, self._guidance.gpus_of(seen.pods)) if profiles else None
            )
            yield Subject(key, seen.deployment, guided, seen.pods, seen.child, profile)


HIDDEN = {
    Sight.UNKNOWN: "the ClusterShiftPolicies of the cluster have not been listed yet",
    Sight.FORBIDDEN: "the operator may not list clustershiftpolicies: its ClusterRole lacks that right",
}
"""Why it is not known which policy applies."""


def as_decided_on(subject: Subject, standing: Standing, now: Instant) -> Deployment:
    """The deployment in the laws' terms, from where it stands. Knobs that are not the operator's have no bounds."""
    spec, key = subject.deployment.spec, subject.key
    asked = standing.degree or spec.parallelism.degree
    degree = _degree_gone_back_to(subject, standing, asked) or asked
    given_up = asked if degree != asked else None
    return Deployment(
        key=key,
        policy=subject.guided.policy,
        profile=subject.profile.name if subject.profile else None,
        degree=degree,
        threshold_tokens=standing.threshold_tokens,
        replicas=wanted_replicas(subject.deployment, standing.replicas, subject.child),
        pods=pods_seen(subject.holding, now),
        seen_gpus=subject.gpus,
        terminating_gpus=subject.terminating_gpus,
        slo=slo_of(subject.deployment),
        threshold_bounds=_threshold_bounds(subject.deployment, degree),
        degree_bounds=_degree_bounds(subject.deployment, given_up),
        degree_changes=_degree_changes(subject.deployment, standing, now),
        live_degrees=standing.live_degrees or frozenset(),
        replica_bounds=_replica_bounds(subject),
        spec=_fallback(subject.deployment, instead=degree if spec.parallelism.degree == given_up else None),
    )


def pods_seen(pods: Sequence[Body], now: Instant) -> PodsSeen:
    """The pods as the replicas law takes them. How long a start takes is what those that are ready took from creation
    to ready; the law's default where none is."""
    ready = [pod for pod in pods if is_ready(pod)]
    others = [pod for pod in pods if not is_ready(pod) and not is_ending(pod)]
    unplaced = sum(unschedulable(pod) is not None for pod in others)
    ages = [_age_seconds(pod, now) for pod in others if unschedulable(pod) is None]
    seconds = [took for took in map(_start_seconds, ready) if took is not None]
    if not seconds:
        return PodsSeen.of(len(ready), ages, unplaced=unplaced)
    return PodsSeen.of(len(ready), ages, unplaced=unplaced, start_seconds=median(seconds))


def _age_seconds(pod: Body, now: Instant) -> float:
    created = pod["metadata"].get("creationTimestamp")
    return max(0.0, now - datetime.fromisoformat(created).timestamp()) if created else 0.0


def _start_seconds(pod: Body) -> float | None:
    """From a pod's creation to its being ready. A pod that was unready since then seems slower than it was."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = next((c.get("lastTransitionTime") for c in conditions if c["type"] == "Ready"), None)
    created = pod["metadata"].get("creationTimestamp")
    if not ready or not created:
        return None
    return max(0.0, (datetime.fromisoformat(ready) - datetime.fromisoformat(created)).total_seconds())


def slo_of(deployment: ShiftDeployment) -> Slo:
    """In seconds. The laws know one share of the requests for both limits: the higher one is promised for both."""
    slo = deployment.spec.slo
    objectives = [objective for objective in (slo and slo.ttft, slo and slo.tpot) if objective]
    if slo is None or not objectives:
        return Slo()
    return Slo(
        ttft_seconds=slo.ttft.milliseconds / 1000 if slo.ttft else None,
        tpot_seconds=slo.tpot.milliseconds / 1000 if slo.tpot else None,
        quantile=max(objective.percentile for objective in objectives) / 100,
    )


def _degree_gone_back_to(subject: Subject, standing: Standing, asked: Degree) -> Degree | None:
    """The degree that the pods run after a rollout that was given up; None where they are those that are asked for."""
    first = first_degree(subject.deployment, asked, subject.child, standing.live_degrees)
    return degree_gone_back_to(started_with(subject.deployment, first), subject.child)


def _fallback(deployment: ShiftDeployment, instead: Degree | None) -> SpecValues:
    """The spec's values; `instead` of its degree where that one was given up."""
    spec = deployment.spec
    return SpecValues(spec.shift.threshold_tokens, instead or spec.parallelism.degree, spec.replicas)


def _degree_bounds(deployment: ShiftDeployment, given_up: Degree | None) -> DegreeBounds | None:
    """None where the user names no candidates, or no step runs at one of them.

    `given_up` is no candidate: it is still asked for, so that its rollout is not tried again.
    """
    spec, shift = deployment.spec, deployment.spec.shift
    if not spec.parallelism.degree_candidates or spec.suspend or shift.mode is ShiftMode.TENSOR_ONLY:
        return None
    lowest, highest = shift.threshold_range.min, shift.threshold_range.max
    if shift.mode is ShiftMode.FIXED:
        lowest = highest = shift.threshold_tokens
    elif shift.mode is ShiftMode.SEQUENCE_ONLY:
        lowest = highest = 0
    candidates = tuple(degree for degree in spec.parallelism.degree_candidates if degree != given_up)
    return DegreeBounds(candidates, lowest, highest)


def _degree_changes(deployment: ShiftDeployment, standing: Standing, now: Instant) -> bool:
    """Whether its last decision on the degree is being carried out: until all engines run it, or for as long as a
    rollout may take, so that one that is stuck does not keep all others waiting."""
    last = next((record for record in reversed(standing.records) if record.kind == Knob.DEGREE), None)
    if last is None or last.outcome != DecisionOutcome.PENDING:
        return False
    return now - last.time.timestamp() <= deployment.spec.rollout.progress_deadline_seconds


def _threshold_bounds(deployment: ShiftDeployment, degree: Degree) -> ThresholdBounds | None:
    """None where the number is the user's, or where nothing should run: its signals then are missing on purpose, and
    a fallback must not undo what was decided."""
    shift = deployment.spec.shift
    if shift.mode is not ShiftMode.AUTO or degree.is_tensor_only or deployment.spec.suspend:
        return None
    return ThresholdBounds(degree=degree, minimum=shift.threshold_range.min, maximum=shift.threshold_range.max)


def _replica_bounds(subject: Subject) -> ReplicaBounds | None:
    """None where the number is the user's, where nothing should run, or where the policy is not the one relied on."""
    spec = subject.deployment.spec
    scaling = spec.scaling
    if scaling.mode is not ScalingMode.MANAGED or spec.suspend:
        return None
    if relies_on_another(subject.deployment, subject.guided.policy):
        return None
    if scaling.idle is None:
        return ReplicaBounds(scaling.lowest, scaling.highest)
    return ReplicaBounds(scaling.lowest, scaling.highest, scaling.idle.replicas, float(scaling.idle.after_seconds))
