"""The decision loop: one look at the metrics per interval for all deployments, one decision for each in mode Auto.

A tick is one query, then pure arithmetic. It writes nothing: what it decides goes to `Decisions`, and a deployment with
news goes to the queue, whose reconcile brings them to the engines. A query that fails makes every signal
Unknown(Unreachable): the law then holds everything.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from shift_operator.api.shift import ShiftMode
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.api.signals import DeploymentKey, Instant, Signals, UnknownWhy, nothing_known
from shift_operator.control.threshold import LawSettings, ThresholdBounds, decide_threshold
from shift_operator.controller.decisions import Decisions
from shift_operator.controller.metrics import Metrics

log = logging.getLogger(__name__)

Look = Callable[[Instant], Awaitable[Mapping[DeploymentKey, Signals]]]
"""Asks Prometheus for all deployments as of a moment, within a deadline. Raises whatever kept it from an answer."""


@dataclass(frozen=True)
class Subject:
    """A deployment to decide on, as it is now."""

    key: DeploymentKey
    deployment: ShiftDeployment
    ready_pods: int


class DecisionLoop:
    """`look` is None where no Prometheus is configured. `clock` gives seconds since the epoch."""

    def __init__(
        self,
        look: Look | None,
        subjects: Callable[[], Iterable[Subject]],
        decisions: Decisions,
        on_change: Callable[[DeploymentKey], None],
        metrics: Metrics,
        *,
        interval_seconds: float,
        law: LawSettings | None = None,
        clock: Callable[[], Instant] = time.time,
    ) -> None:
        self._look = look
        self._subjects = subjects
        self._decisions = decisions
        self._on_change = on_change
        self._metrics = metrics
        self._interval_seconds = interval_seconds
        self._law = law or LawSettings()
        self._clock = clock

    async def run(self) -> None:
        """Ticks until cancelled, at whole multiples of the interval from now; those missed are left out."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._interval_seconds
        while True:
            await asyncio.sleep(due - loop.time())
            self._metrics.decision_lag_seconds.set(loop.time() - due)
            await self.tick()
            missed = int((loop.time() - due) / self._interval_seconds)
            due += (missed + 1) * self._interval_seconds

    async def tick(self) -> None:
        """Looks once and decides on every deployment in mode Auto."""
        signals, failure = await self._signals()
        now = self._clock()
        for subject in self._subjects():
            seen = signals.get(subject.key)
            if seen is None:
                seen = failure or nothing_known(UnknownWhy.ABSENT, "Prometheus has no series of this deployment")
            try:
                has_news = self._decide(subject, seen.as_of(now, self._law.max_age_seconds), now)
            except Exception:  # a bug met by one deployment's numbers must not hold up the others: this one is held
                log.exception("deciding failed", extra={"key": str(subject.key)})
                continue
            if has_news:
                self._on_change(subject.key)

    async def _signals(self) -> tuple[Mapping[DeploymentKey, Signals], Signals | None]:
        """The signals by deployment; in place of those, what is to be thought of all when the query failed."""
        if self._look is None:
            self._metrics.tick("not configured")
            return {}, nothing_known(UnknownWhy.UNREACHABLE, "no Prometheus is configured: set --prometheus-url")
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            signals = await self._look(self._clock())
        except Exception as error:  # whatever it was, the law must hold; the reason goes into every status
            outcome = type(error).__name__
            self._metrics.tick(outcome)
            log.warning("query failed", extra={"outcome": outcome, "error": str(error)})
            return {}, nothing_known(UnknownWhy.UNREACHABLE, str(error) or outcome)
        self._metrics.query_seconds.observe(loop.time() - begun)
        self._metrics.tick("ok")
        return signals, None

    def _decide(self, subject: Subject, signals: Signals, now: Instant) -> bool:
        """Whether the deployment has something new to show."""
        spec = subject.deployment.spec
        if spec.shift.mode is not ShiftMode.AUTO or spec.parallelism.degree.is_tensor_only:
            return self._decisions.look(subject.key, subject.deployment, signals, now)
        bounds = ThresholdBounds(
            degree=spec.parallelism.degree,
            minimum=spec.shift.threshold_range.min,
            maximum=spec.shift.threshold_range.max,
        )
        before = self._decisions.of(subject.key, subject.deployment).threshold_tokens
        decision = decide_threshold(before, signals, bounds, ready_pods=subject.ready_pods, now=now, law=self._law)
        self._metrics.decided(decision.knob, decision.verb, decision.reason)
        log.log(
            logging.INFO if decision.moves else logging.DEBUG,
            "decided",
            extra={
                "key": str(subject.key),
                "knob": decision.knob,
                "before": decision.before,
                "after": decision.after,
                "reason": decision.reason,
                "evidence": {fact.name: fact.value for fact in decision.evidence},
            },
        )
        return self._decisions.take(subject.key, subject.deployment, decision, signals, now)
