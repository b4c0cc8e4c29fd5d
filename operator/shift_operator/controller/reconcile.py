"""Brings a ShiftDeployment's children to what its spec and its last decision ask; its status says how far they are.

Level-based: it knows no events, only what is there. It writes only where something differs, so a reconcile with nothing
to do writes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from shift_operator.api import labels
from shift_operator.api.conditions import DegradedReason
from shift_operator.api.schedule import Schedule
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.api.signals import DeploymentKey
from shift_operator.api.status import ShiftDeploymentStatus
from shift_operator.cluster.cache import Cache
from shift_operator.cluster.client import Body, Cluster
from shift_operator.cluster.errors import NamespaceEnding, NotFound
from shift_operator.cluster.events import EventRecorder
from shift_operator.cluster.resources import PODS, SHIFT_DEPLOYMENTS
from shift_operator.controller.children import Children, Trouble
from shift_operator.controller.decisions import Decisions
from shift_operator.controller.engines import EngineReport, Engines
from shift_operator.controller.events import events_between
from shift_operator.controller.metrics import Metrics
from shift_operator.controller.observe import Observer, Seen
from shift_operator.controller.queue import Again
from shift_operator.planning.conditions import Problem, confirms
from shift_operator.planning.plan import plan
from shift_operator.planning.schedule import next_schedule, previous_schedule
from shift_operator.planning.status import Observed, is_news, status_of

log = logging.getLogger(__name__)

CONFIRM_SECONDS = (1.0, 1.0, 2.0, 4.0, 10.0)
"""Pauses between two questions to pods that do not run the wanted generation yet; the last one repeats."""
TROUBLE_SECONDS = 30.0
"""A name that is taken or a write that is refused is tried again this often: no watch tells when that ends."""


class Reconciler:
    """What every reconcile needs. `resync_seconds` is the longest pause between two reconciles of a deployment."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        engines: Engines,
        decisions: Decisions,
        observer: Observer,
        metrics: Metrics,
        *,
        resync_seconds: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._engines = engines
        self._decisions = decisions
        self._observer = observer
        self._metrics = metrics
        self._resync_seconds = resync_seconds
        self._now = now
        self._recorder = EventRecorder(cluster)
        self._children = Children(cluster, cache, self._recorder)
        self._asked: dict[DeploymentKey, tuple[int, int]] = {}

    async def reconcile(self, key: DeploymentKey) -> Again:
        """Brings the children to what is wanted. Raises what may pass by itself; the queue then comes again."""
        seen = self._observer.observe(key)
        if seen is None:
            self._forget(key)
            return Again.never()  # owner references remove the children
        try:
            schedule = self._schedule(key, seen)
            troubles = await self._children.bring(key, seen, plan(seen.deployment, schedule))
            await self._announce(seen.pods, schedule, troubles)  # after the ConfigMap: at this the kubelet re-reads it
            reports = await self._engines.reports(seen.pods, schedule.generation)
            await self._report(key, schedule, reports, troubles)
        except NamespaceEnding:
            return Again.after(TROUBLE_SECONDS)  # the namespace takes the ShiftDeployment with it
        return self._again(key, schedule, reports, troubles)

    def _schedule(self, key: DeploymentKey, seen: Seen) -> Schedule:
        deployment = seen.deployment
        threshold = self._decisions.of(key, deployment).threshold_tokens
        schedule = next_schedule(deployment.spec, previous_schedule(seen.config_map, deployment.status), threshold)
        self._metrics.threshold(key, schedule.threshold_tokens)
        return schedule

    async def _announce(self, pods: Sequence[Body], schedule: Schedule, troubles: Sequence[Trouble]) -> None:
        """Tells each pod's kubelet, by an annotation, that there is a newer ConfigMap to mount."""
        if any(trouble.child.kind == "ConfigMap" for trouble in troubles):
            return
        generation = str(schedule.generation)
        await asyncio.gather(*(self._annotate(pod, generation) for pod in pods if _needs_word(pod, generation)))

    async def _annotate(self, pod: Body, generation: str) -> None:
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        try:
            annotations = {labels.SCHEDULE_GENERATION: generation}
            self._cache.put(PODS, await self._cluster.annotate_pod(namespace, name, annotations))
        except NotFound:
            self._cache.forget(PODS, namespace, name)

    async def _report(
        self, key: DeploymentKey, schedule: Schedule, reports: Sequence[EngineReport], troubles: Sequence[Trouble]
    ) -> None:
        """Writes the status where it says something new, and Events for what is new in it."""
        seen = self._observer.observe(key)  # with what was just applied
        if seen is None:
            return
        standing = self._decisions.of(key, seen.deployment)
        before = seen.deployment.status
        after = status_of(
            Observed(
                deployment=seen.deployment,
                schedule=schedule,
                workload=seen.child,
                pods=seen.pods,
                reports=reports,
                signals=standing.signals,
                decisions=standing.records,
                problems=[_problem(trouble) for trouble in troubles],
            ),
            self._now(),
        )
        self._decisions.settle(key, after.decisions)
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
        self._children.forget(key)
        self._decisions.forget(key)
        self._metrics.threshold(key, None)


def _needs_word(pod: Body, generation: str) -> bool:
    metadata = pod["metadata"]
    known = (metadata.get("annotations") or {}).get(labels.SCHEDULE_GENERATION)
    return known != generation and not metadata.get("deletionTimestamp")


def _problem(trouble: Trouble) -> Problem:
    return Problem(DegradedReason.NAME_TAKEN if trouble.name_taken else DegradedReason.WRITE_REFUSED, trouble.message)
