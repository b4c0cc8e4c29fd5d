"""What was decided for each deployment, in memory; the status of the object is its memory beyond this process.

A deployment that this process meets for the first time stands where its status says: a restart of the operator changes
nothing by itself. Only what a reader would call news is kept: a decision that moves a knob or would if it might, or one
that holds it for another reason than the last one on that knob.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from shift_operator.api.memory import Memory
from shift_operator.api.scaling import ScalingMode
from shift_operator.api.schedule import Degree
from shift_operator.api.shift import ShiftMode
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.api.signals import DeploymentKey, Instant, Sampled
from shift_operator.api.status import KEPT_DECISIONS, DecisionOutcome, DecisionRecord
from shift_operator.control.decision import Decision, Knob
from shift_operator.control.inputs import DeploymentDecisions, DeploymentState, Observed
from shift_operator.control.memory import recalled, remembered
from shift_operator.controller.news import Told
from shift_operator.planning.policy import Guided


@dataclass(frozen=True)
class Standing:
    """Where a deployment stands. `made`, `observed` and `guided` are None until the loop has looked once.

    `observed` is what a reader is to see: signals that come and go from look to look are not taken over each time.
    `replicas` is the last decision on them; None outside scaling.mode Managed and where there is none. `degree` is the
    last decision on it; None where it is the spec's. `live_degrees` are those that every engine runs or can build
    without a restart; None while that is not known.
    """

    threshold_tokens: int
    records: tuple[DecisionRecord, ...] = ()
    replicas: int | None = None
    degree: Degree | None = None
    live_degrees: frozenset[Degree] | None = None
    made: DeploymentDecisions | None = None
    state: DeploymentState = field(default_factory=DeploymentState)
    observed: Observed | None = None
    guided: Guided | None = None
    moved_at: Mapping[str, Instant] = field(default_factory=dict)
    """When the last decision was made that moved a knob and has not come through yet, by the knob."""
    told: Mapping[str, Told] = field(default_factory=dict)
    """What has been told on each knob, and under SIGNALS of the signals that are unknown."""


class Decisions:
    """The standing of every deployment that this process has met.

    `watched_until`: when the process before this one is known to have looked last; None where that is not known.
    """

    def __init__(self, watched_until: Instant | None = None) -> None:
        self._watched_until = watched_until
        self._standings: dict[DeploymentKey, Standing] = {}

    def of(self, key: DeploymentKey, deployment: ShiftDeployment) -> Standing:
        """Where the deployment stands; from its status if this process has not met it yet.

        Outside mode Auto the threshold is the spec's, and Auto begins where that left it. Outside scaling.mode Managed
        the replicas are the spec's, and Managed begins with those that run.
        """
        standing = self._standings.get(key) or _from_status(deployment, self._watched_until)
        if deployment.spec.shift.mode is not ShiftMode.AUTO:
            standing = replace(standing, threshold_tokens=deployment.spec.shift.threshold_tokens)
        if deployment.spec.scaling.mode is not ScalingMode.MANAGED:
            standing = replace(standing, replicas=None)
        if standing.degree not in deployment.spec.parallelism.degree_candidates:
            standing = replace(standing, degree=None)
        self._standings[key] = standing
        return standing

    def take(
        self,
        key: DeploymentKey,
        deployment: ShiftDeployment,
        made: DeploymentDecisions,
        state: DeploymentState,
        observed: Observed,
        guided: Guided,
        now: Instant,
    ) -> bool:
        """Keeps what was decided, on what, and under which policy. Whether there is news in it."""
        before = self.of(key, deployment)
        records, moved_at, told = before.records, dict(before.moved_at), dict(before.told)
        for decision in decisions_in(made):
            kind, outcome = decision.knob, _outcome(decision, enforced=decision.knob in made.enforced)
            moves = outcome == DecisionOutcome.PENDING
            last = next((record for record in reversed(records) if record.kind == kind), None)
            earlier = told.get(kind)
            if earlier is None and last is not None:
                earlier = Told.first(_saying(last.outcome, last.to, last.reason))
            to = _value(decision, decision.after, deployment)
            told[kind] = _told(earlier, _saying(outcome, to, decision.reason), now, at_once=moves)
            if moves or earlier is None or told[kind].last != earlier.last:
                records = _with(_record(decision, deployment, now, outcome), last, records)
            if moves:
                moved_at[kind] = now
        unknown = _unknown(observed)
        told[SIGNALS] = _told(before.told.get(SIGNALS), unknown, now)
        shown = observed if before.observed is None or told[SIGNALS].last == unknown else before.observed
        after = replace(
            before,
            records=records,
            moved_at=moved_at,
            made=made,
            state=state,
            observed=shown,
            guided=guided,
            told=told,
        )
        if made.threshold is not None and Knob.THRESHOLD in made.enforced:
            after = replace(after, threshold_tokens=made.threshold.after)
        if made.replicas is not None and Knob.REPLICAS in made.enforced:
            after = replace(after, replicas=made.replicas.after)
        if Knob.DEGREE in made.enforced and made.degree is not None:
            # A hold leaves what is asked for, which after a rollout that was given up is not the degree that is held.
            if made.degree.moves or after.degree is None:
                after = replace(after, degree=_degree(made.degree.after, deployment))
        elif Knob.DEGREE not in made.enforced and guided.hidden is None:
            after = replace(after, degree=None)  # it is the user's
        self._standings[key] = after
        return (
            records != before.records
            or guided != before.guided
            or before.made is None
            or before.told[SIGNALS].last != told[SIGNALS].last
            or before.degree != after.degree
            or _lasting(before.state) != _lasting(state)
        )

    def learn(self, key: DeploymentKey, live_degrees: frozenset[Degree] | None) -> None:
        """Keeps which degrees the engines say they can run; what is not known leaves what was known."""
        if live_degrees is not None:
            self._standings[key] = replace(self._standings[key], live_degrees=live_degrees)

    def settle(self, key: DeploymentKey, records: tuple[DecisionRecord, ...], now: Instant) -> Mapping[str, float]:
        """Keeps what a status shows to have come of each decision. Those made since stay as they are.

        Gives the knobs that have got now to where the last decision wanted them, with the seconds since it was made;
        none that an earlier process made, whose times are only known to the second, and none that were rolled back.
        """
        standing = self._standings[key]
        shown = {(record.time, record.kind, record.to): record for record in records}
        kept = tuple(shown.get((record.time, record.kind, record.to), record) for record in standing.records)
        came_of = {record.kind: record.outcome for record in kept if record.from_ != record.to}
        came = {kind: (at, came_of.get(kind)) for kind, at in standing.moved_at.items()}
        through = {kind: now - at for kind, (at, outcome) in came.items() if outcome == DecisionOutcome.APPLIED}
        moved_at = {kind: at for kind, (at, outcome) in came.items() if outcome == DecisionOutcome.PENDING}
        self._standings[key] = replace(standing, records=kept, moved_at=moved_at)
        return through

    def forget(self, key: DeploymentKey) -> None:
        """The deployment is gone."""
        self._standings.pop(key, None)


def decisions_in(made: DeploymentDecisions) -> list[Decision[Any, Any]]:
    """Those that were made, in the order of what they cost."""
    return [decision for decision in (made.threshold, made.degree, made.replicas) if decision is not None]


def _lasting(state: DeploymentState) -> Memory | None:
    memory = remembered(state)
    return memory and memory.what_lasts()


def _from_status(deployment: ShiftDeployment, watched_until: Instant | None) -> Standing:
    status, tokens = deployment.status, deployment.spec.shift.threshold_tokens
    if status is None:
        return Standing(tokens)
    if status.shift is not None and status.shift.desired.threshold_tokens is not None:
        tokens = status.shift.desired.threshold_tokens
    return Standing(
        tokens,
        status.decisions,
        replicas=status.desired_replicas,
        degree=status.schedule.ranges[-1].degree if status.schedule else None,
        state=recalled(status.memory, watched_until),
    )


def _outcome(decision: Decision[Any, Any], *, enforced: bool) -> DecisionOutcome:
    """What becomes of it at first."""
    if not decision.moves:
        return DecisionOutcome.HELD
    return DecisionOutcome.PENDING if enforced else DecisionOutcome.ADVISED


def _record(
    decision: Decision[Any, Any], deployment: ShiftDeployment, now: Instant, outcome: DecisionOutcome
) -> DecisionRecord:
    evidence = "; ".join(map(str, decision.evidence))
    return DecisionRecord(
        time=datetime.fromtimestamp(now, UTC),
        kind=decision.knob,
        from_=_value(decision, decision.before, deployment),
        to=_value(decision, decision.after, deployment),
        reason=decision.reason,
        limit=decision.limit,
        outcome=outcome,
        message=evidence if len(evidence) <= MAX_EVIDENCE else evidence[: MAX_EVIDENCE - 1] + "…",
    )


MAX_EVIDENCE = 2048
"""As long as a record's message may be."""


def _value(decision: Decision[Any, Any], value: int, deployment: ShiftDeployment) -> str:
    if decision.knob is not Knob.DEGREE:
        return str(value)
    return str(_degree(value, deployment))


def _degree(sequence: int, deployment: ShiftDeployment) -> Degree:
    return Degree(sequence=sequence, tensor=deployment.spec.parallelism.gpus_per_replica // sequence)


SIGNALS = "Signals"


def _saying(outcome: str, to: str, reason: str) -> Hashable:
    """What a decision says that the next one may say again. Where a knob moved for a reason, holding it there for the
    same one says nothing else."""
    return (outcome, to, reason) if outcome == DecisionOutcome.ADVISED else (to, reason)


def _told(earlier: Told | None, what: Hashable, now: Instant, *, at_once: bool = False) -> Told:
    return Told.first(what) if earlier is None else earlier.after(what, now, at_once=at_once)


def _with(
    record: DecisionRecord, last: DecisionRecord | None, records: tuple[DecisionRecord, ...]
) -> tuple[DecisionRecord, ...]:
    """With one more; `last` is the one before on its knob. A hold takes the place of the hold before it, or reasons
    that come and go would push out the moves that a reader looks for."""
    if last is not None and last.outcome == record.outcome == DecisionOutcome.HELD:
        records = tuple(known for known in records if known is not last)
    return (*records, record)[-KEPT_DECISIONS:]


def _unknown(observed: Observed) -> frozenset[tuple[str, str]]:
    """Which series are unknown, and why. Details are left out: they carry ages."""
    groups: tuple[Sampled, ...] = (observed.signals, observed.traffic)
    return frozenset((signal.source, signal.why) for group in groups for signal in group.unknown())
