"""The decision loop: for each policy one look at its metrics per interval, then one decision on all its deployments.

Each policy has a task of its own, and each look a deadline: a Prometheus that is slow or gone costs the policies that
ask it and no others. A tick is one look, then pure arithmetic. It writes nothing: what it decides goes to `Decisions`,
and a deployment with news goes to the queue, whose reconcile carries it out. A look that fails makes every signal
Unknown(Unreachable): the laws then hold.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from shift_operator.api.policy import PolicyMode
from shift_operator.api.scaling import ScalingMode
from shift_operator.api.shift import ShiftMode
from shift_operator.api.signals import (
    DeploymentKey,
    Instant,
    LatencyLimits,
    UnknownWhy,
    nothing_known,
    nothing_known_of_traffic,
)
from shift_operator.control.decide import decide
from shift_operator.control.guidance import measured
from shift_operator.control.inputs import Deployment, DeploymentDecisions, DeploymentState, Observed, PolicySettings
from shift_operator.controller.decisions import Decisions, decisions_in
from shift_operator.controller.garbage import collect_after_the_tick
from shift_operator.controller.metrics import Metrics
from shift_operator.controller.policies import BUILT_IN, PolicyInForce
from shift_operator.controller.prometheus_signals import NO_SERIES, Asked, Look, Sighting, Source
from shift_operator.controller.subjects import Subject, as_decided_on, slo_of
from shift_operator.planning.policy_status import PolicyObserved
from shift_operator.prometheus.contract import Expected

log = logging.getLogger(__name__)

NO_SOURCE = "no Prometheus is configured: set --prometheus-url, or prometheus.url of the policy"


class LooksOf(Protocol):
    """Where the looks come from: `Looks`."""

    def of(self, policy: str, source: Source) -> Look: ...
    def keep(self, policies: tuple[str, ...]) -> None: ...


class DecisionLoop:
    """`report` is told what each tick of a policy saw. `clock` gives seconds since the epoch."""

    def __init__(
        self,
        looks: LooksOf,
        policies: Callable[[], Mapping[str, PolicyInForce]],
        subjects: Callable[[], Iterable[Subject]],
        decisions: Decisions,
        on_change: Callable[[DeploymentKey], None],
        report: Callable[[str, PolicyObserved], Awaitable[None]],
        metrics: Metrics,
        *,
        clock: Callable[[], Instant] = time.time,
    ) -> None:
        self._looks = looks
        self._policies = policies
        self._subjects = subjects
        self._decisions = decisions
        self._on_change = on_change
        self._report = report
        self._metrics = metrics
        self._clock = clock
        self._seen: dict[str, Mapping[DeploymentKey, Observed]] = {}
        self._ticked: Mapping[str, PolicyInForce] = {}
        self._policies_changed = asyncio.Event()

    def policies_changed(self) -> None:
        """Policies came, went or were edited: those that are new or other than before are decided by at once."""
        self._policies_changed.set()

    async def tick(self) -> None:
        """Looks once by every policy, side by side, and decides."""
        self._ticked = self._policies()
        await asyncio.gather(*(self._tick(policy) for policy in self._ticked.values()))

    async def run(self) -> None:
        """Ticks until cancelled: the policies of the last `tick` again after their interval, others at once."""
        beats: dict[str, asyncio.Task[None]] = {}
        known = dict(self._ticked)
        async with asyncio.TaskGroup() as group:
            while True:
                self._policies_changed.clear()
                policies = self._policies()
                for name in list(beats):
                    if policies.get(name) != known.get(name):
                        beats.pop(name).cancel()
                for name, policy in policies.items():
                    if name not in beats:
                        at_once = known.get(name) != policy
                        beats[name] = group.create_task(self._beat(policy, at_once), name=f"decisions of {name!r}")
                known = dict(policies)
                self._looks.keep(tuple(policies))
                for name in self._seen.keys() - policies.keys():
                    del self._seen[name]
                    self._metrics.policy_gpus(name, None, None)
                await self._policies_changed.wait()

    async def _beat(self, policy: PolicyInForce, at_once: bool) -> None:
        """Ticks at whole multiples of the interval from now; those missed are left out."""
        loop = asyncio.get_running_loop()
        due = loop.time() + (0.0 if at_once else policy.interval_seconds)
        while True:
            await asyncio.sleep(due - loop.time())
            self._metrics.decision_lag_seconds.set(loop.time() - due)
            await self._tick(policy)
            missed = int((loop.time() - due) / policy.interval_seconds)
            due += (missed + 1) * policy.interval_seconds

    async def _tick(self, policy: PolicyInForce) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        with collect_after_the_tick():
            sighting, instead, error = await self._look(policy)
            mine = self._decide(policy, sighting.observed, instead)
        self._metrics.tick_seconds.observe(loop.time() - begun)
        in_use = sum(subject.gpus for subject in mine)
        self._metrics.policy_gpus(policy.name, in_use, policy.settings.budget.max_gpus)
        observed = PolicyObserved(
            deployments=len(mine),
            ready_pods=sum(subject.ready_pods for subject in mine),
            gpus_in_use=in_use,
            configured=policy.source is not None,
            query_error=error,
            contract_checked=sighting.contract_checked,
            contract_faults=sighting.contract_faults,
        )
        await self._report(policy.name, observed)

    async def _look(self, policy: PolicyInForce) -> tuple[Sighting, Observed, str | None]:
        """What is seen, what to think of a deployment that is not in it, and the error of a look that failed."""
        if policy.source is None:
            self._metrics.tick(policy.name, "not configured")
            return Sighting({}), _nothing(UnknownWhy.UNREACHABLE, NO_SOURCE), None
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            sighting = await self._looks.of(policy.name, policy.source)(self._clock(), self._asked(policy))
        except Exception as error:  # whatever it was, the laws must hold; the reason goes into every status
            outcome = type(error).__name__
            self._metrics.tick(policy.name, outcome)
            log.warning("query failed", extra={"policy": policy.name, "outcome": outcome, "error": str(error)})
            words = str(error) or outcome
            return Sighting({}), _nothing(UnknownWhy.UNREACHABLE, words), words
        self._metrics.query_seconds.observe(loop.time() - begun)
        self._metrics.tick(policy.name, "ok")
        return sighting, _nothing(UnknownWhy.ABSENT, NO_SERIES), None

    def _asked(self, policy: PolicyInForce) -> Mapping[DeploymentKey, Asked]:
        """What is to be known of the policy's deployments."""
        return {subject.key: _asked_of(subject) for subject in self._subjects() if _is_under(subject, policy)}

    def _decide(
        self, policy: PolicyInForce, seen: Mapping[DeploymentKey, Observed], instead: Observed
    ) -> Sequence[Subject]:
        """Decides on the policy's deployments, and gives them. Those of other policies are only counted, in the budgets
        and where steps are pooled, as they were last seen."""
        now = self._clock()
        subjects = list(self._subjects())
        mine = [subject for subject in subjects if _is_under(subject, policy)]
        self._seen[policy.name] = {subject.key: seen.get(subject.key, instead) for subject in mine}
        policies = {
            name: other.settings if name == policy.name else _only_counted(other.settings)
            for name, other in self._policies().items()
        }
        made, state = self._decisions_on(now, subjects, mine, policies)
        for subject in mine:
            if subject.key in made:
                self._take(subject, made[subject.key], state[subject.key], policy, now)
        return mine

    def _decisions_on(
        self,
        now: Instant,
        subjects: Sequence[Subject],
        mine: Sequence[Subject],
        policies: Mapping[str, PolicySettings],
    ) -> tuple[Mapping[DeploymentKey, DeploymentDecisions], Mapping[DeploymentKey, DeploymentState]]:
        """All at once; one by one where that fails: a bug met by one deployment's numbers must not hold the others."""
        standings = {s.key: self._decisions.of(s.key, s.deployment) for s in subjects}
        deployments = {s.key: as_decided_on(s, standings[s.key], now) for s in subjects}
        signals = {key: observed for seen in self._seen.values() for key, observed in seen.items()}
        profiles = {s.profile.name: measured(s.profile) for s in subjects if s.profile}
        before = {key: standing.state for key, standing in standings.items()}
        try:
            return decide(now, deployments.values(), signals, profiles, before, policies)
        except Exception:
            log.exception("deciding failed, trying the deployments one by one")
        made: dict[DeploymentKey, DeploymentDecisions] = {}
        state: dict[DeploymentKey, DeploymentState] = {}
        for subject in mine:
            key = subject.key
            alone = [deployments[key], *(_without_knobs(d) for other, d in deployments.items() if other != key)]
            try:
                found, after = decide(now, alone, {key: signals[key]}, profiles, before, policies)
            except Exception:
                log.exception("deciding failed", extra={"key": str(key)})
            else:
                made[key], state[key] = found[key], after[key]
        return made, state

    def _take(
        self, subject: Subject, made: DeploymentDecisions, state: DeploymentState, policy: PolicyInForce, now: Instant
    ) -> None:
        observed = self._seen[policy.name][subject.key]
        max_age = policy.settings.threshold.max_age_seconds
        fresh = Observed(observed.signals.as_of(now, max_age), observed.traffic.as_of(now, max_age))
        for decision in decisions_in(made):
            enforced = decision.knob in made.enforced
            mode = PolicyMode.ENFORCE if enforced else PolicyMode.ADVISORY
            self._metrics.decided(decision.knob, decision.verb, decision.reason, mode)
            log.log(
                logging.INFO if decision.moves and enforced else logging.DEBUG,
                "decided",
                extra={
                    "key": str(subject.key),
                    "policy": policy.name,
                    "mode": mode,
                    "knob": decision.knob,
                    "before": decision.before,
                    "after": decision.after,
                    "reason": decision.reason,
                    "limit": decision.limit,
                    "evidence": {fact.name: fact.value for fact in decision.evidence},
                },
            )
        if self._decisions.take(subject.key, subject.deployment, made, state, fresh, subject.guided, now):
            self._on_change(subject.key)


def _is_under(subject: Subject, policy: PolicyInForce) -> bool:
    return (subject.guided.policy or BUILT_IN) == policy.name


def _asked_of(subject: Subject) -> Asked:
    """Its limits, and the series that the knobs need which are the operator's."""
    spec, slo = subject.deployment.spec, slo_of(subject.deployment)
    expected = Expected(
        pods=subject.ready_pods,
        steps=spec.shift.mode is ShiftMode.AUTO,
        traffic=spec.scaling.mode is ScalingMode.MANAGED,
    )
    return Asked(LatencyLimits(slo.ttft_seconds, slo.tpot_seconds), expected)


def _nothing(why: UnknownWhy, detail: str) -> Observed:
    return Observed(nothing_known(why, detail), nothing_known_of_traffic(why, detail))


def _only_counted(settings: PolicySettings) -> PolicySettings:
    """The policy when it is not its turn: nothing is decided, its deployments keep their state."""
    off = PolicyMode.DISABLED
    return replace(settings, threshold_mode=off, degree_mode=off, replicas_mode=off)


def _without_knobs(deployment: Deployment) -> Deployment:
    return replace(deployment, threshold_bounds=None, degree_bounds=None, replica_bounds=None)
