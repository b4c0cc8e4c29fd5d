"""What was decided for each deployment, in memory; the status of the object is its memory beyond this process.

A deployment that this process meets for the first time stands where its status says: a restart of the operator changes
nothing by itself. Only what a reader would call news is kept: a decision that moved the threshold, or one that holds it
for another reason than the last.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from shift_operator.api.shift import ShiftMode
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.api.signals import DeploymentKey, Instant, Signals
from shift_operator.api.status import KEPT_DECISIONS, DecisionOutcome, DecisionRecord
from shift_operator.control.threshold import ThresholdDecision


@dataclass(frozen=True)
class Standing:
    """Where a deployment stands. `decision`, `signals` and `looked_at` are None until the loop has looked once."""

    threshold_tokens: int
    records: tuple[DecisionRecord, ...] = ()
    decision: ThresholdDecision | None = None
    signals: Signals | None = None
    looked_at: Instant | None = None


class Decisions:
    """The standing of every deployment that this process has met."""

    def __init__(self) -> None:
        self._standings: dict[DeploymentKey, Standing] = {}

    def of(self, key: DeploymentKey, deployment: ShiftDeployment) -> Standing:
        """Where the deployment stands; from its status if this process has not met it yet.

        Outside mode Auto the threshold is the spec's, and Auto begins where that left it.
        """
        standing = self._standings.get(key) or _from_status(deployment)
        if deployment.spec.shift.mode is not ShiftMode.AUTO:
            standing = replace(standing, threshold_tokens=deployment.spec.shift.threshold_tokens, decision=None)
        self._standings[key] = standing
        return standing

    def look(self, key: DeploymentKey, deployment: ShiftDeployment, signals: Signals, now: Instant) -> bool:
        """Keeps what was seen of a deployment on which nothing is decided. Whether other signals are unknown now."""
        before = self.of(key, deployment)
        self._standings[key] = replace(before, signals=signals, looked_at=now)
        return _unknown(before.signals) != _unknown(signals)

    def take(
        self,
        key: DeploymentKey,
        deployment: ShiftDeployment,
        decision: ThresholdDecision,
        signals: Signals,
        now: Instant,
    ) -> bool:
        """Keeps a decision and what it was made on. Whether there is news in it."""
        before = self.of(key, deployment)
        news = decision.moves or not before.records or before.records[-1].reason != decision.reason
        self._standings[key] = Standing(
            threshold_tokens=decision.after,
            records=(*before.records, _record(decision, now))[-KEPT_DECISIONS:] if news else before.records,
            decision=decision,
            signals=signals,
            looked_at=now,
        )
        return news or before.decision is None or _unknown(before.signals) != _unknown(signals)

    def settle(self, key: DeploymentKey, records: tuple[DecisionRecord, ...]) -> None:
        """Keeps the records as a status shows them, with what came of each decision."""
        self._standings[key] = replace(self._standings[key], records=records)

    def forget(self, key: DeploymentKey) -> None:
        """The deployment is gone."""
        self._standings.pop(key, None)


def _from_status(deployment: ShiftDeployment) -> Standing:
    status, tokens = deployment.status, deployment.spec.shift.threshold_tokens
    if status is None:
        return Standing(tokens)
    if status.shift is not None and status.shift.desired.threshold_tokens is not None:
        tokens = status.shift.desired.threshold_tokens
    return Standing(tokens, status.decisions)


def _record(decision: ThresholdDecision, now: Instant) -> DecisionRecord:
    return DecisionRecord(
        time=datetime.fromtimestamp(now, UTC),
        kind=decision.knob,
        from_=str(decision.before),
        to=str(decision.after),
        reason=decision.reason,
        outcome=DecisionOutcome.PENDING if decision.moves else DecisionOutcome.HELD,
        message="; ".join(map(str, decision.evidence)),
    )


def _unknown(signals: Signals | None) -> frozenset[tuple[str, str]] | None:
    """Which series are unknown, and why; None before the first look. Details are left out: they carry ages."""
    return None if signals is None else frozenset((signal.source, signal.why) for signal in signals.unknown())
