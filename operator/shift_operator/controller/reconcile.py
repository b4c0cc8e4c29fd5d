"""Brings a ShiftDeployment's children to what its spec and its last decision ask; its status says how far they are.

Level-based: it knows no events, only what is there. It writes only where something differs, so a reconcile with nothing
to do writes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from shift_operator.api.conditions import DegradedReason
from shift_operator.api.profile import ShiftProfile
from shift_operator.api.schedule import Degree, Schedule
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.api.signals import DeploymentKey
from shift_operator.api.status import ShiftDeploymentStatus
from shift_operator.cluster.cache import Cache
from shift_operator.cluster.client import Cluster
from shift_operator.cluster.errors import NamespaceEnding, NotFound, ServedByAnother
from shift_operator.cluster.events import EventRecorder
from shift_operator.cluster.resources import LEADER_WORKER_SETS, NODES, SHIFT_DEPLOYMENTS
from shift_operator.control.memory import remembered
from shift_operator.controller import events
from shift_operator.controller.asking import Asking
from shift_operator.controller.children import Children, Trouble
from shift_operator.controller.decisions import Decisions, Standing
from shift_operator.controller.engines import EngineReport, Engines
from shift_operator.controller.events import events_between
from shift_operator.controller.free_gpus import FreeGpus
from shift_operator.controller.metrics import Metrics
from shift_operator.controller.observe import Observer, Seen
from shift_operator.controller.optional_kinds import OptionalKinds, Sight
from shift_operator.controller.pods import Pods
from shift_operator.controller.profiles import Profiles
from shift_operator.controller.queue import Again
from shift_operator.controller.rollouts import Rollouts
from shift_operator.planning.asking import Ask, seconds_to_next_ask
from shift_operator.planning.capacity import seconds_to_deadline
from shift_operator.planning.conditions import Problem, confirms
from shift_operator.planning.degree import degree_of, first_degree, live_in_all, started_with
from shift_operator.planning.groups import seconds_until_stuck, to_run_now
from shift_operator.planning.nodes import too_small
from shift_operator.planning.ownership import Install, Ownership
from shift_operator.planning.plan import plan
from shift_operator.planning.replicas import wanted_replicas
from shift_operator.planning.rollback import WentBack
from shift_operator.planning.schedule import next_schedule, previous_schedule
from shift_operator.planning.schedule_files import file_for, file_of, schedule_files
from shift_operator.planning.span import Span, next_span
from shift_operator.planning.status import Observed, is_news, status_of
from shift_operator.planning.workload import workload

log = logging.getLogger(__name__)

CONFIRM_SECONDS = (1.0, 1.0, 2.0, 4.0, 10.0)
"""Pauses between two questions to pods that do not run the wanted generation yet; the last one repeats."""
TROUBLE_SECONDS = 30.0
"""A name that is taken or a write that is refused is tried again this often: no watch tells when that ends."""


class Reconciler:
    """What every reconcile needs.

    `optional_kinds` says what is known of each of them; `known_profiles` gives its ShiftProfiles, None while they
    cannot be seen; `ownership` says who serves a namespace; `enqueue` asks for a reconcile of a deployment;
    `resync_seconds` is the longest pause between two reconciles of a deployment.
    """

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        engines: Engines,
        decisions: Decisions,
        observer: Observer,
        metrics: Metrics,
        *,
        optional_kinds: OptionalKinds,
        known_profiles: Callable[[], Iterable[ShiftProfile] | None],
        ownership: Callable[[str], Ownership],
        enqueue: Callable[[DeploymentKey], None],
        resync_seconds: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._engines = engines
        self._decisions = decisions
        self._observer = observer
        self._metrics = metrics
        self._optional_kinds = optional_kinds
        self._ownership = ownership
        self._enqueue = enqueue
        self._resync_seconds = resync_seconds
        self._now = now
        self._recorder = EventRecorder(cluster)
        self._children = Children(cluster, cache, self._recorder)
        self._pods = Pods(cluster, cache, engines)
        self._gpus = FreeGpus(cluster, cache)
        self._asking = Asking(self._gpus, now)
        self._rollouts = Rollouts(cluster, self._gpus, now)
        self._profiles = Profiles(cluster, cache, engines, known_profiles)
        self._left: dict[DeploymentKey, Install] = {}
        self._asked: dict[DeploymentKey, tuple[int, int]] = {}
        self._running: dict[DeploymentKey, int] = {}  # the highest generation of any engine, when last asked

    async def reconcile(self, key: DeploymentKey) -> Again:
        """Brings the children to what is wanted. Raises what may pass by itself; the queue then comes again."""
        seen = self._observer.observe(key)
        if seen is None:
            self._forget(key)
            self._left.pop(key, None)
            return Again.never()  # owner references remove the children
        serving = self._ownership(key.namespace)
        if not serving.is_ours:
            await self._leave(key, seen, serving)
            return Again.never()  # whoever tells us that it is ours again asks for all
        if self._left.pop(key, None) is not None:
            self._forget(key)  # the status has what the other install decided
        standing = self._decisions.of(key, seen.deployment)  # one for all of it: the loop may decide in the meantime
        try:
            wanted_degree = standing.degree or seen.deployment.spec.parallelism.degree
            first = first_degree(seen.deployment, wanted_degree, seen.child, standing.live_degrees)
            seen = replace(seen, deployment=started_with(seen.deployment, first))
            wanted_now = wanted_replicas(seen.deployment, standing.replicas, seen.child)
            span = self._span(seen)
            ask = await self._asking.ask(key, seen, wanted_now, span)
            replicas = ask.replicas
            await self._pods.weigh(seen, replicas)  # before the Deployment, whose controller then knows which to delete
            file = file_for(first, seen.child, seen.config_map)
            asked = workload(seen.deployment, replicas, file=file, nodes=span.nodes)
            if span.nodes > 1:
                replicas = to_run_now(seen.deployment.spec.rollout, asked.body, seen.pods, replicas)
            instead = await self._rollouts.instead(seen, asked)
            read = file if instead is None else file_of(instead.template)
            schedule = self._schedule(key, seen, standing, instead, wanted_degree, read)
            tokens = standing.threshold_tokens
            files = schedule_files(read, schedule, seen.deployment.spec, tokens, seen.child, seen.config_map, seen.pods)
            begun = asked if instead is None else workload(seen.deployment, replicas, instead=instead)
            replacing = await self._rollouts.choose(seen, begun)
            kinds = self._optional_kinds.names()
            wanted = plan(seen.deployment, schedule, replicas, kinds, replacing, instead, file, files, span)
            troubles = await self._children.remove(seen, wanted)  # first, so that two workloads never run side by side
            troubles += await self._children.bring(key, seen, wanted)
            if not any(trouble.child.kind == "ConfigMap" for trouble in troubles):
                await self._pods.announce(seen.serving, schedule.generation)  # at which the ConfigMap is re-read
            reports = await self._engines.reports(seen.serving, schedule.generation, lambda: self._enqueue(key))
            self._running[key] = max((report.generation for report in reports), default=0)
            self._decisions.learn(key, live_in_all(report.live_degrees for report in reports))
            await self._report(key, standing, schedule, wanted_now, ask, span, reports, troubles, first)
            await self._profiles.keep(key, seen)
        except NamespaceEnding:
            return Again.after(TROUBLE_SECONDS)  # the namespace takes the ShiftDeployment with it
        except ServedByAnother:
            return Again.after(0.0)  # since this reconcile began
        again = self._again(key, schedule, reports, troubles)
        now = self._now()
        again = again.at_latest(seconds_to_deadline(seen.deployment, seen.pods, now))
        again = again.at_latest(seconds_to_next_ask(seen.deployment, ask, now))
        deadline = seen.deployment.spec.rollout.progress_deadline_seconds
        again = again.at_latest(seconds_until_stuck(seen.child, seen.pods, now, deadline))
        # Pods that are not ours, whose end frees GPUs too, no watch of ours tells of.
        is_short = ask.replicas < wanted_now or not span.known
        return again.at_latest(TROUBLE_SECONDS) if is_short else again

    async def _leave(self, key: DeploymentKey, seen: Seen, serving: Ownership) -> None:
        """Does nothing to a deployment of another install's, and says so once. What we remember of it grows old."""
        self._forget(key)
        if serving.owner is not None and self._left.get(key) != serving.owner:
            self._left[key] = serving.owner
            log.warning("left to another install", extra={"key": str(key), "install": serving.owner.name})
            await self._recorder.record(seen.body, events.served_by_another(serving, serving.owner))

    def gpus_came_free(self) -> frozenset[DeploymentKey]:
        """Which deployments to reconcile after something ended, or a node came or changed."""
        self._gpus.changed()
        return self._asking.short()

    def _span(self, seen: Seen) -> Span:
        """Over how many nodes each replica goes."""
        sight = self._optional_kinds.sight(LEADER_WORKER_SETS)
        return next_span(
            seen.deployment,
            too_small(seen.deployment, self._cache.all(NODES)),
            seen.child,
            seen.pods,
            groups_served=None if sight is Sight.UNKNOWN else sight is Sight.SEEN,
        )

    def _schedule(
        self, key: DeploymentKey, seen: Seen, standing: Standing, instead: WentBack | None, wanted: Degree, file: str
    ) -> Schedule:
        deployment = seen.deployment
        previous = previous_schedule(seen.config_map, deployment.status, file)
        degree = None if instead is None else degree_of(instead.template)
        running = self._running.get(key, 0)
        schedule = next_schedule(deployment.spec, previous, standing.threshold_tokens, degree or wanted, running)
        self._metrics.threshold(key, schedule.threshold_tokens)
        return schedule

    async def _report(
        self,
        key: DeploymentKey,
        standing: Standing,
        schedule: Schedule,
        replicas: int,
        ask: Ask,
        span: Span,
        reports: Sequence[EngineReport],
        troubles: Sequence[Trouble],
        first_degree: Degree,
    ) -> None:
        """Writes the status where it says something new, and Events for what is new in it.

        `standing` is what was carried out: a decision made since then has not come through, whatever the pods confirm.
        """
        seen = self._observer.observe(key)  # with what was just applied
        if seen is None:
            return
        before = seen.deployment.status
        after = status_of(
            Observed(
                deployment=started_with(seen.deployment, first_degree),
                schedule=schedule,
                replicas=replicas,
                workload=seen.child,
                pods=seen.pods,
                reports=reports,
                signals=standing.observed.signals if standing.observed else None,
                decisions=standing.records,
                memory=remembered(standing.state),
                guided=standing.guided,
                problems=[_problem(trouble) for trouble in troubles],
                ask=ask,
                serving=self._ownership(key.namespace),
                advice=span.advice,
            ),
            self._now(),
        )
        for knob, seconds in self._decisions.settle(key, after.decisions, self._now().timestamp()).items():
            self._metrics.confirm_seconds.labels(knob).observe(seconds)
        if not is_news(before, after):
            return
        await self._write(key, seen.deployment, after)
        for event in events_between(before, after):
            await self._recorder.record(seen.body, event)

    async def _write(self, key: DeploymentKey, deployment: ShiftDeployment, status: ShiftDeploymentStatus) -> None:
        try:
            body = await self._cluster.apply_status(SHIFT_DEPLOYMENTS, *key, status.to_body())
        except NotFound:
            self._cache.forget(SHIFT_DEPLOYMENTS, *key)
            return
        self._cache.put(SHIFT_DEPLOYMENTS, body)
        log.info("status written", extra={"key": str(key), "observed_generation": deployment.metadata.generation})

    def _again(
        self, key: DeploymentKey, schedule: Schedule, reports: Sequence[EngineReport], troubles: Sequence[Trouble]
    ) -> Again:
        if all(confirms(report, schedule.generation) for report in reports):
            self._asked.pop(key, None)
            return Again.after(TROUBLE_SECONDS if troubles else self._resync_seconds)
        generation, times = self._asked.get(key, (0, 0))
        times = times if generation == schedule.generation else 0
        self._asked[key] = (schedule.generation, times + 1)
        return Again.after(CONFIRM_SECONDS[min(times, len(CONFIRM_SECONDS) - 1)])

    def _forget(self, key: DeploymentKey) -> None:
        self._asked.pop(key, None)
        self._running.pop(key, None)
        self._asking.forget(key)
        self._children.forget(key)
        self._decisions.forget(key)
        self._profiles.forget(key)
        self._metrics.threshold(key, None)


def _problem(trouble: Trouble) -> Problem:
    return Problem(DegradedReason.NAME_TAKEN if trouble.name_taken else DegradedReason.WRITE_REFUSED, trouble.message)
