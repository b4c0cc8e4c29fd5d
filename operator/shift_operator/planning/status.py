"""A ShiftDeployment's status from what was observed: pure, so that equal observations give an equal status."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from shift_operator.api import labels
from shift_operator.api.conditions import Condition, ConditionStatus, ConditionType, condition, kept
from shift_operator.api.memory import Memory
from shift_operator.api.schedule import Degree, Schedule
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
from shift_operator.planning.asking import Ask
from shift_operator.planning.capacity import capacity_available
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
from shift_operator.planning.groups import counts_of, serving
from shift_operator.planning.manifest import Body
from shift_operator.planning.ownership import Ownership, conflict
from shift_operator.planning.pods import is_ready
from shift_operator.planning.policy import Guided, policy_applied
from shift_operator.planning.replicas import desired_replicas
from shift_operator.planning.rollback import good_revision, rolled_back, running_degree


@dataclass(frozen=True)
class Observed:
    """Everything a status is made of. `deployment` has the status that was written before; `replicas` should run."""

    deployment: ShiftDeployment
    schedule: Schedule
    replicas: int
    workload: Body | None = None
    pods: Sequence[Body] = ()
    reports: Sequence[EngineReport] = ()
    signals: Signals | None = None
    decisions: Sequence[DecisionRecord] = ()
    memory: Memory | None = None
    guided: Guided | None = None
    problems: Sequence[Problem] = field(default=())
    ask: Ask | None = None
    serving: Ownership = field(default_factory=Ownership)
    advice: str | None = None


def status_of(observed: Observed, now: datetime) -> ShiftDeploymentStatus:
    """The status to report; times of what has not changed are those of the status before."""
    deployment, schedule = observed.deployment, observed.schedule
    before = deployment.status or ShiftDeploymentStatus()
    deadline = deployment.spec.rollout.progress_deadline_seconds
    counts = counts_of(observed.workload, observed.pods, now, deadline)
    applied = configuration_applied(schedule, _ready_pods(observed), observed.reports)
    return ShiftDeploymentStatus(
        observed_generation=deployment.metadata.generation,
        replicas=counts.replicas,
        ready_replicas=counts.ready,
        updated_replicas=counts.updated,
        available_replicas=counts.available,
        desired_replicas=desired_replicas(deployment, observed.replicas),
        release=observed.ask.release if observed.ask else None,
        selector=labels.selector(deployment.name),
        ready=f"{counts.ready}/{observed.replicas}",
        degree=str(_large_degree(observed)),
        good_revision=good_revision(observed.replicas, counts, observed.pods) or before.good_revision,
        shift=ShiftStatus(
            desired=DesiredShift(threshold_tokens=schedule.threshold_tokens, generation=schedule.generation),
            applied=_applied(schedule, observed.reports),
            last_change_time=_last_change(before, schedule, now),
        ),
        schedule=schedule,
        signals=_signals(observed.signals, now),
        decisions=_decisions(observed, counts, confirmed=applied.status is ConditionStatus.TRUE),
        memory=observed.memory,
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
    return status.model_copy(update={"signals": signals, "memory": status.memory and status.memory.what_lasts()})


def _large_degree(observed: Observed) -> Degree:
    """That of the wanted schedule; of the pods where the schedule has none, in mode TensorOnly."""
    large = observed.schedule.ranges[-1].degree
    return running_degree(observed.deployment, observed.workload) if large.is_tensor_only else large


def _ready_pods(observed: Observed) -> int:
    return sum(map(is_ready, serving(observed.pods)))


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


def _decisions(observed: Observed, counts: Counts, *, confirmed: bool) -> tuple[DecisionRecord, ...]:
    """The last ones, with what has become of those that were pending.

    One has come through when what is wanted now is there: for a threshold every pod runs the schedule, for replicas as
    many serve, for a degree both. While the pods are those of an earlier revision, so is their degree.
    """
    rolled_out = counts.settled(observed.replicas) and counts.available == observed.replicas
    outcomes: dict[str, DecisionOutcome] = {}
    if confirmed:
        outcomes["Threshold"] = DecisionOutcome.APPLIED
    if rolled_out:
        outcomes["Replicas"] = DecisionOutcome.APPLIED
    if rolled_back(observed.deployment, observed.workload) is not None:
        outcomes["Degree"] = DecisionOutcome.ROLLED_BACK
    elif confirmed and rolled_out:
        outcomes["Degree"] = DecisionOutcome.APPLIED
    return tuple(
        record.model_copy(update={"outcome": outcomes[record.kind].value})
        if record.outcome == DecisionOutcome.PENDING and record.kind in outcomes
        else record
        for record in observed.decisions[-KEPT_DECISIONS:]
    )


def _conditions(
    observed: Observed, before: ShiftDeploymentStatus, counts: Counts, applied: Verdict, now: datetime
) -> tuple[Condition, ...]:
    deployment, ask = observed.deployment, observed.ask
    capacity = capacity_available(deployment, observed.pods, now, observed.replicas, ask, observed.advice)
    is_held_back = ask is not None and ask.replicas < observed.replicas and counts.settled(ask.replicas)
    verdicts = {
        ConditionType.AVAILABLE: available(deployment, observed.replicas, counts),
        ConditionType.PROGRESSING: rolled_back(deployment, observed.workload)
        or progressing(
            deployment, observed.replicas, counts, observed.pods, capacity.message if is_held_back else None
        ),
        ConditionType.DEGRADED: degraded(
            observed.problems, observed.pods, missing=counts.available < observed.replicas
        ),
        ConditionType.METRICS_AVAILABLE: metrics_available(observed.signals, _ready_pods(observed)),
        ConditionType.CONFIGURATION_APPLIED: applied,
        ConditionType.CAPACITY_AVAILABLE: capacity,
        ConditionType.POLICY_APPLIED: policy_applied(deployment, observed.guided),
        ConditionType.CONFLICT: conflict(observed.serving),
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
