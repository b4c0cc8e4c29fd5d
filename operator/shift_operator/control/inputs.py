"""What one decision over all deployments is given and gives: plain values that the controller fills and carries out."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shift_operator.api.policy import PolicyMode
from shift_operator.api.schedule import Degree
from shift_operator.api.signals import CurvePoint, DeploymentKey, Instant, Signals, Traffic
from shift_operator.control.budget import Budget
from shift_operator.control.decision import Knob
from shift_operator.control.degree import DegreeBounds, DegreeDecision, DegreeLaw, DegreeState
from shift_operator.control.fallback import SpecValues
from shift_operator.control.performance import Slo
from shift_operator.control.replicas import ReplicasDecision
from shift_operator.control.scaling import PodsSeen, ReplicaBounds, ReplicaLaw, ReplicaState
from shift_operator.control.threshold import LawSettings, ThresholdBounds, ThresholdDecision


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """A policy as the laws see it. The defaults are those of a deployment that no policy selects.

    The mode is each knob's own: a policy may enforce thresholds and only advise on replicas.
    """

    threshold_mode: PolicyMode = PolicyMode.ENFORCE
    degree_mode: PolicyMode = PolicyMode.ENFORCE
    replicas_mode: PolicyMode = PolicyMode.ENFORCE
    budget: Budget = field(default_factory=Budget)
    threshold: LawSettings = field(default_factory=LawSettings)
    degree: DegreeLaw = field(default_factory=DegreeLaw)
    replicas: ReplicaLaw = field(default_factory=ReplicaLaw)
    fallback_after_seconds: float | None = None
    """How long signals may be unknown before each knob goes to the spec's value; None holds for as long as it takes."""

    interval_seconds: float = 15.0
    """Time between two calls, as a rule: two that are much further apart were not one watch."""

    @property
    def enforced(self) -> frozenset[Knob]:
        """The knobs whose decisions are to be carried out."""
        modes = {
            Knob.THRESHOLD: self.threshold_mode,
            Knob.DEGREE: self.degree_mode,
            Knob.REPLICAS: self.replicas_mode,
        }
        return frozenset(knob for knob, mode in modes.items() if mode is PolicyMode.ENFORCE)

    @property
    def gap_seconds(self) -> float:
        """Two looks further apart than this are a gap: what lasted before it need not have lasted through it."""
        return max(120.0, 3 * self.interval_seconds)


@dataclass(frozen=True, slots=True)
class Profile:
    """What was measured of a model on its GPUs: curves and KV tokens per pod by degree."""

    curves: Mapping[Degree, tuple[CurvePoint, ...]] = field(default_factory=dict)
    kv_capacity_tokens: Mapping[Degree, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Observed:
    """What Prometheus says of one deployment."""

    signals: Signals
    traffic: Traffic


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment as it is now, and which of its knobs the operator may turn: bounds are None where the user does.

    `degree_changes` while pods of two degrees run. `profile` is the key of its profile, None without one; deployments
    of one key pool their steps. GPUs are those of the pods that are seen, terminating ones included in both.
    `live_degrees` are those that every engine says it runs or can build without a restart: they leave the KV cache as
    it is. `spec` has the values for the fallback, None where it has none.
    """

    key: DeploymentKey
    policy: str | None
    profile: str | None
    degree: Degree
    threshold_tokens: int
    replicas: int
    pods: PodsSeen
    seen_gpus: int
    terminating_gpus: int = 0
    weight: float = 1.0
    slo: Slo = field(default_factory=Slo)
    threshold_bounds: ThresholdBounds | None = None
    degree_bounds: DegreeBounds | None = None
    replica_bounds: ReplicaBounds | None = None
    degree_changes: bool = False
    live_degrees: frozenset[Degree] = frozenset()
    spec: SpecValues | None = None


@dataclass(frozen=True, slots=True)
class DeploymentState:
    """What the decisions on one deployment leave to the next ones. Kept in its status.

    `looked_at`: when these were made. The others: since when the signals of a knob are unknown, None while they are
    known; those of the replicas are in their own state.
    """

    replicas: ReplicaState | None = None
    degree: DegreeState = field(default_factory=DegreeState)
    looked_at: Instant | None = None
    threshold_unknown_since: Instant | None = None
    degree_unknown_since: Instant | None = None

    def at(self, now: Instant, gap_seconds: float) -> "DeploymentState":
        """The state as it counts at `now`: after a gap without a look, all that has to last begins anew."""
        if self.looked_at is None or now - self.looked_at <= gap_seconds:
            return self
        return self.unwatched(now)

    def unwatched(self, now: Instant) -> "DeploymentState":
        """What is left of it where nobody looked until `now`: what was learned, and nothing that has to last."""
        replicas = self.replicas.after_a_gap(now) if self.replicas else None
        return DeploymentState(replicas, looked_at=now)


State = Mapping[DeploymentKey, DeploymentState]


@dataclass(frozen=True, slots=True)
class DeploymentDecisions:
    """The decisions on one deployment; None for a knob that is the user's, or that its policy leaves alone.

    `enforced` has the knobs whose decision is to be carried out; the others are to be shown.
    """

    enforced: frozenset[Knob] = frozenset()
    threshold: ThresholdDecision | None = None
    degree: DegreeDecision | None = None
    replicas: ReplicasDecision | None = None
