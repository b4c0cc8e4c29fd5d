"""What the observed state means for a ShiftDeployment's conditions: one function per condition, each a verdict."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shift_operator.api.conditions import (
    AvailableReason,
    ConditionStatus,
    ConfigurationReason,
    DegradedReason,
    MetricsReason,
    ProgressingReason,
    Reason,
)
from shift_operator.api.scaling import ScalingMode
from shift_operator.api.schedule import Schedule
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.api.signals import Known, Signals, Unknown, UnknownWhy
from shift_operator.planning.manifest import Body
from shift_operator.planning.pods import failures, waiting_for_node
from shift_operator.planning.rollout import Replacing

# The signals that a threshold decision cannot do without.
NEEDED_SIGNALS = ("step_sizes", "step_time", "max_batched_tokens", "pods_reporting")


@dataclass(frozen=True)
class Verdict:
    """A condition without its type and times."""

    status: ConditionStatus
    reason: Reason
    message: str


@dataclass(frozen=True)
class Problem:
    """What kept a child from being applied, found by the controller: a name taken, a write refused."""

    reason: DegradedReason
    message: str


class EngineReport(Protocol):
    """What one ready pod answered to GET /shift; `ranks` is 0 where it gave no answer, `problem` says why."""

    @property
    def pod(self) -> str: ...
    @property
    def generation(self) -> int: ...
    @property
    def threshold_tokens(self) -> int | None: ...
    @property
    def ranks_confirmed(self) -> int: ...
    @property
    def ranks(self) -> int: ...
    @property
    def problem(self) -> str | None: ...


@dataclass(frozen=True)
class Counts:
    """The child Deployment's own counts. Unit: pods. `current`: they are about the Deployment's newest spec."""

    replicas: int = 0
    ready: int = 0
    updated: int = 0
    available: int = 0
    current: bool = False
    stuck: bool = False
    may_miss: int = 0
    """Pods that may be missing by the Deployment's strategy."""

    @classmethod
    def of(cls, workload: Body | None) -> "Counts":
        status = (workload or {}).get("status") or {}
        if workload is None or not status:
            return cls()
        return cls(
            replicas=status.get("replicas", 0),
            ready=status.get("readyReplicas", 0),
            updated=status.get("updatedReplicas", 0),
            available=status.get("availableReplicas", 0),
            current=status.get("observedGeneration", 0) >= workload["metadata"].get("generation", 1),
            stuck=any(
                c["type"] == "Progressing" and c.get("reason") == "ProgressDeadlineExceeded"
                for c in status.get("conditions") or ()
            ),
            may_miss=Replacing.of(workload).max_unavailable,
        )

    @property
    def is_rolling_out(self) -> bool:
        """Whether there are pods of an older template, as far as is known."""
        return not self.current or self.updated != self.replicas

    def settled(self, wanted: int) -> bool:
        """Whether no rollout runs: all pods that should be there are, and are of the newest template."""
        return not self.is_rolling_out and self.replicas == wanted


def available(deployment: ShiftDeployment, wanted: int, counts: Counts) -> Verdict:
    """True while at most maxUnavailable of `wanted` replicas are missing, and at least one serves."""
    if deployment.spec.suspend:
        return Verdict(
            ConditionStatus.FALSE, AvailableReason.SUSPENDED, "spec.suspend is true; set it to false to serve"
        )
    if wanted == 0:
        managed = deployment.spec.scaling.mode is ScalingMode.MANAGED
        why = "nobody asks, and scaling.idle.replicas is 0" if managed else "spec.replicas is 0"
        return Verdict(ConditionStatus.FALSE, AvailableReason.SCALED_TO_ZERO, why)
    if not counts.current and counts.available == 0:
        return Verdict(ConditionStatus.UNKNOWN, AvailableReason.NOT_OBSERVED, "its workload has no status yet")
    message = f"{counts.available} of {wanted} replicas serve"
    may_miss = deployment.spec.rollout.max_unavailable
    if counts.available >= max(1, wanted - (counts.may_miss if may_miss is None else may_miss)):
        return Verdict(ConditionStatus.TRUE, AvailableReason.REPLICAS_READY, message)
    return Verdict(ConditionStatus.FALSE, AvailableReason.REPLICAS_NOT_READY, message)


def progressing(
    deployment: ShiftDeployment, wanted: int, counts: Counts, pods: Sequence[Body], held_back: str | None = None
) -> Verdict:
    """True while replicas are replaced and when all `wanted` ones are; False when that is stuck.

    `held_back`: why fewer than `wanted` are asked for.
    """
    state = f"{counts.updated} of {wanted} replicas have the newest template, {counts.available} serve"
    if counts.settled(wanted) and counts.available == wanted:
        return Verdict(ConditionStatus.TRUE, ProgressingReason.ROLLOUT_COMPLETE, state)
    no_node = waiting_for_node(pods)
    if counts.current and counts.stuck:
        deadline = deployment.spec.rollout.progress_deadline_seconds
        message = f"no replica became ready for {deadline} s; {no_node or state}"
        return Verdict(ConditionStatus.FALSE, ProgressingReason.PROGRESS_DEADLINE_EXCEEDED, message)
    if held_back is not None or no_node is not None:
        return Verdict(ConditionStatus.TRUE, ProgressingReason.WAITING_FOR_NODE, held_back or no_node or "")
    return Verdict(ConditionStatus.TRUE, ProgressingReason.ROLLING_OUT, state)


def degraded(problems: Sequence[Problem], pods: Sequence[Body], *, missing: bool) -> Verdict:
    """True when waiting does not help: what kept us from applying a child first, then what the pods say.

    `missing`: fewer replicas serve than are wanted.
    """
    if problems:
        first = problems[0]
        return Verdict(ConditionStatus.TRUE, first.reason, first.message + _more(len(problems) - 1, "problem"))
    if found := failures(pods, missing=missing):
        worst = found[0]
        return Verdict(ConditionStatus.TRUE, worst.reason, str(worst) + _more(len(found) - 1, "failing pod"))
    return Verdict(ConditionStatus.FALSE, DegradedReason.AS_EXPECTED, "")


def configuration_applied(schedule: Schedule, ready_pods: int, reports: Sequence[EngineReport]) -> Verdict:
    """True when every rank of every ready pod confirms the wanted generation."""
    if ready_pods == 0:
        return Verdict(
            ConditionStatus.UNKNOWN,
            ConfigurationReason.NO_READY_PODS,
            f"generation {schedule.generation} waits for pods",
        )
    confirmed = sum(confirms(report, schedule.generation) for report in reports)
    message = f"{confirmed} of {ready_pods} pods run generation {schedule.generation}"
    if confirmed >= ready_pods:
        return Verdict(ConditionStatus.TRUE, ConfigurationReason.CONFIRMED, message)
    why = next((r for r in reports if r.problem and not confirms(r, schedule.generation)), None)
    if why is not None:
        message += f"; pod {why.pod}: {why.problem}"
    return Verdict(ConditionStatus.FALSE, ConfigurationReason.WAITING_FOR_PODS, message)


def confirms(report: EngineReport, generation: int) -> bool:
    """Whether every rank of the pod runs this generation."""
    return report.generation == generation and 0 < report.ranks == report.ranks_confirmed


def metrics_available(signals: Signals | None, ready_pods: int) -> Verdict:
    """True when everything that a threshold decision needs is known of every ready pod."""
    if signals is None:
        return Verdict(ConditionStatus.UNKNOWN, MetricsReason.NOT_ASKED, "the decision loop has not looked yet")
    unknown = [s for name in NEEDED_SIGNALS if isinstance(s := getattr(signals, name), Unknown)]
    unreachable = next((s for s in unknown if s.why is UnknownWhy.UNREACHABLE), None)
    if unreachable is not None:
        return Verdict(
            ConditionStatus.UNKNOWN, MetricsReason.PROMETHEUS_UNREACHABLE, unreachable.detail or str(unreachable)
        )
    if ready_pods == 0:
        return Verdict(ConditionStatus.UNKNOWN, MetricsReason.NO_READY_PODS, "no replica is ready")
    if unknown:
        return Verdict(ConditionStatus.FALSE, _METRICS_REASONS[unknown[0].why], "; ".join(map(missing, unknown)))
    reporting = signals.pods_reporting
    if isinstance(reporting, Known) and reporting.value < ready_pods:
        message = f"{reporting.value} of {ready_pods} ready pods report"
        return Verdict(ConditionStatus.FALSE, MetricsReason.METRICS_PARTIAL, message)
    return Verdict(ConditionStatus.TRUE, MetricsReason.METRICS_FOUND, f"{ready_pods} of {ready_pods} ready pods report")


_METRICS_REASONS = {
    UnknownWhy.ABSENT: MetricsReason.METRICS_MISSING,
    UnknownWhy.NOT_A_NUMBER: MetricsReason.METRICS_MISSING,
    UnknownWhy.STALE: MetricsReason.METRICS_STALE,
    UnknownWhy.PARTIAL: MetricsReason.METRICS_PARTIAL,
}


def missing(signal: Unknown) -> str:
    """Which series is missing and why, without the age that a stale one has: it would be news at every look."""
    return f"{signal.source}: {signal.why}" if signal.why is UnknownWhy.STALE else str(signal)


def _more(count: int, what: str) -> str:
    return f" (and {count} more {what}{'s' if count > 1 else ''})" if count else ""
