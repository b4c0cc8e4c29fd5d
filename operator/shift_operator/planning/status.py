"""A ShiftDeployment's status from what was observed: pure, so that equal observations give an equal status."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from shift_operator.api import labels
from shift_operator.api.conditions import Condition, ConditionStatus, ConditionType, condition, kept
from shift_operator.api.schedule import Schedule
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.api.signals import Known, Signals, Unknown
from shift_operator.api.status import (
    KEPT_DECISIONS,
    AppliedShift,
    DecisionOutcome,
    DecisionRecord,
    DesiredShift,
    ShiftDeploymentStatus,
    ShiftStatus,
    SignalStatus,
)
from shift_operator.planning.conditions import (
    Counts,
    EngineReport,
    Problem,
    Verdict,
    available,
    configuration_applied,
    confirms,
    degraded,
    metrics_available,
    missing,
    progressing,
)
from shift_operator.planning.manifest import Body
from shift_operator.planning.pods import is_ready


@dataclass(frozen=True)
class Observed:
    """Everything a status is made of. `deployment` has the status that was written before."""

    deployment: ShiftDeployment
    schedule: Schedule
    workload: Body | None = None
    pods: Sequence[Body] = ()
    reports: Sequence[EngineReport] = ()
    signals: Signals | None = None
    decisions: Sequence[DecisionRecord] = ()
    problems: Sequence[Problem] = field(default=())


def status_of(observed: Observed, now: datetime) -> ShiftDeploymentStatus:
    """The status to report; times of what has not changed are those of the status before."""
    deployment, schedule = observed.deployment, observed.schedule
    before = deployment.status or ShiftDeploymentStatus()
    counts = Counts.of(observed.workload)
    applied = configuration_applied(schedule, _ready_pods(observed), observed.reports)
    return ShiftDeploymentStatus(
        observed_generation=deployment.metadata.generation,
        replicas=counts.replicas,
        ready_replicas=counts.ready,
        updated_replicas=counts.updated,
        available_replicas=counts.available,
        selector=labels.selector(deployment.name),
        ready=f"{counts.ready}/{deployment.wanted_replicas}",
        degree=str(deployment.spec.parallelism.degree),
        shift=ShiftStatus(
            desired=DesiredShift(threshold_tokens=schedule.threshold_tokens, generation=schedule.generation),
            applied=_applied(schedule, observed.reports),
            last_change_time=_last_change(before, schedule, now),
        ),
        schedule=schedule,
        signals=_signals(observed.signals, now),
        decisions=_decisions(observed.decisions, confirmed=applied.status is ConditionStatus.TRUE),
        conditions=_conditions(observed, before, counts, applied, now),
    )


def is_news(before: ShiftDeploymentStatus | None, after: ShiftDeploymentStatus) -> bool:
    """Whether a status is worth a write.

    The signals move at every look at the metrics; they are written along with what changes for other reasons, and by
    themselves only when one becomes known or unknown. So an idle or steady deployment costs no write.
    """
    return before is None or _without_numbers(before) != _without_numbers(after)


def _without_numbers(status: ShiftDeploymentStatus) -> ShiftDeploymentStatus:
    signals = tuple(
        s.model_copy(update={"value": None if s.value is None else 0, "age_seconds": None}) for s in status.signals
    )
    return status.model_copy(update={"signals": signals})


def _ready_pods(observed: Observed) -> int:
    return sum(map(is_ready, observed.pods))


def _applied(schedule: Schedule, reports: Sequence[EngineReport]) -> AppliedShift | None:
    answers = [report for report in reports if report.ranks > 0]
    if not answers:
        return None
    last = min(answers, key=lambda report: report.generation)
    confirming = [report for report in answers if confirms(report, schedule.generation)]
    return AppliedShift(
        threshold_tokens=last.threshold_tokens,
        generation=last.generation,
        pods=len(confirming),
        ranks=sum(report.ranks for report in confirming),
    )


def _last_change(before: ShiftDeploymentStatus, schedule: Schedule, now: datetime) -> datetime:
    if before.shift and before.shift.last_change_time and before.shift.desired.generation == schedule.generation:
        return before.shift.last_change_time
    return now


def _decisions(records: Sequence[DecisionRecord], *, confirmed: bool) -> tuple[DecisionRecord, ...]:
    """The last ones; a pending one has come through when every pod runs the schedule that is wanted now."""
    last = records[-KEPT_DECISIONS:]
    if not confirmed:
        return tuple(last)
    return tuple(
        record.model_copy(update={"outcome": DecisionOutcome.APPLIED.value})
        if record.outcome == DecisionOutcome.PENDING
        else record
        for record in last
    )


def _conditions(
    observed: Observed, before: ShiftDeploymentStatus, counts: Counts, applied: Verdict, now: datetime
) -> tuple[Condition, ...]:
    deployment = observed.deployment
    verdicts = {
        ConditionType.AVAILABLE: available(deployment, counts),
        ConditionType.PROGRESSING: progressing(deployment, counts, observed.pods),
        ConditionType.DEGRADED: degraded(observed.problems, observed.pods),
        ConditionType.METRICS_AVAILABLE: metrics_available(observed.signals, _ready_pods(observed)),
        ConditionType.CONFIGURATION_APPLIED: applied,
    }
    generation = deployment.metadata.generation
    return kept(
        before.conditions,
        (
            condition(type_, v.status, v.reason, v.message, generation=generation, now=now)
            for type_, v in verdicts.items()
        ),
    )


def _signals(signals: Signals | None, now: datetime) -> tuple[SignalStatus, ...]:
    if signals is None:
        return ()
    steps = signals.step_sizes
    observed = steps if isinstance(steps, Unknown) else Known(sum(b.steps for b in steps.value), steps.at, steps.source)
    shown: dict[str, Known[float] | Known[int] | Unknown] = {
        "stepsObserved": observed,
        "maxBatchedTokens": signals.max_batched_tokens,
        "podsReporting": signals.pods_reporting,
        "requestsRunning": signals.running,
        "requestsWaiting": signals.waiting,
    }
    return tuple(
        SignalStatus(name=name, unknown=missing(signal), source=signal.source)
        if isinstance(signal, Unknown)
        else SignalStatus(
            name=name,
            value=round(signal.value),
            age_seconds=round(signal.age(now.timestamp())),
            source=signal.source,
        )
        for name, signal in shown.items()
    )
