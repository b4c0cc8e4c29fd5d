"""The decision loop: one look at the metrics per interval for all deployments, one decision for each in mode Auto.

A tick is one query in one worker thread, then pure arithmetic. It writes nothing: what it decides goes to `Decisions`,
and a deployment whose decision changed goes to the queue, whose reconcile brings it to the engines. A query that
fails, or takes longer than its deadline, makes every signal Unknown(Unreachable): the law then holds everything.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from shift_operator.api.shift import ShiftMode
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.api.signals import DeploymentKey, Instant, Signals, UnknownWhy, nothing_known
from shift_operator.control.threshold import LawSettings, ThresholdBounds, decide_threshold
from shift_operator.controller.decisions import Decisions
from shift_operator.controller.metrics import Metrics

log = logging.getLogger(__name__)

QUERY_SECONDS = 10.0
"""A query that takes longer is given up; the thread that runs it has a shorter timeout of its own."""

ReadSignals = Callable[[Instant], Mapping[DeploymentKey, Signals]]
"""Asks Prometheus for all deployments as of a moment. Blocks; raises whatever kept it from an answer."""


@dataclass(frozen=True)
class Subject:
    """A deployment to decide on, as it is now."""

    key: DeploymentKey
    deployment: ShiftDeployment
    ready_pods: int


class DecisionLoop:
    """`read` is None where no Prometheus is configured. `clock` gives seconds since the epoch."""

    def __init__(
        self,
        read: ReadSignals | None,
        subjects: Callable[[], Iterable[Subject]],
        decisions: Decisions,
        on_change: Callable[[DeploymentKey], None],
        metrics: Metrics,
        *,
        interval_seconds: float,
        law: LawSettings | None = None,
        clock: Callable[[], Instant] = time.time,
    ) -> None:
        self._read = read
        self._subjects = subjects
        self._decisions = decisions
        self._on_change = on_change
        self._metrics = metrics
        self._interval_seconds = interval_seconds
        self._law = law or LawSettings()
        self._clock = clock
        # One thread: a second query while the first hangs would only hang too.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prometheus")
        self._asked: asyncio.Future[Mapping[DeploymentKey, Signals]] | None = None

    async def run(self) -> None:
        """Ticks until cancelled, at whole multiples of the interval from now; those missed are left out."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        try:
            while True:
                await asyncio.sleep(due - loop.time())
                self._metrics.decision_lag_seconds.set(loop.time() - due)
                await self.tick()
                missed = max(0, int((loop.time() - due) / self._interval_seconds))
                due += (missed + 1) * self._interval_seconds
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def tick(self) -> None:
        """Looks once and decides on every deployment in mode Auto."""
        signals, failure = await self._look()
        now = self._clock()
        for subject in self._subjects():
            seen = signals.get(subject.key)
            if seen is None:
                seen = failure or nothing_known(UnknownWhy.ABSENT, "Prometheus has no series of this deployment")
            if self._decide(subject, seen.as_of(now, self._law.max_age_seconds), now):
                self._on_change(subject.key)

    async def _look(self) -> tuple[Mapping[DeploymentKey, Signals], Signals | None]:
        """The signals by deployment; in place of those, what is to be thought of all when the query failed."""
        if self._read is None:
            self._metrics.tick("not configured")
            return {}, nothing_known(UnknownWhy.UNREACHABLE, "no Prometheus is configured: set --prometheus-url")
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            if self._asked is None or self._asked.done():
                self._asked = loop.run_in_executor(self._thread, self._read, self._clock())
            # Shielded: a thread cannot be cancelled, and the next tick must know that it still runs.
            signals = await asyncio.wait_for(asyncio.shield(self._asked), QUERY_SECONDS)
        except TimeoutError:
            return {}, self._failed("TimedOut", f"no answer within {QUERY_SECONDS:g} s")
        except Exception as error:  # whatever it was, the law must hold; the reason goes into every status
            return {}, self._failed(type(error).__name__, str(error))
        self._metrics.query_seconds.observe(loop.time() - begun)
        self._metrics.tick("ok")
        return signals, None

    def _failed(self, outcome: str, error: str) -> Signals:
        self._metrics.tick(outcome)
        log.warning("query failed", extra={"error": error})
        return nothing_known(UnknownWhy.UNREACHABLE, error)

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
