"""One operator process from start to end: what runs beside what, and in which order it stops.

    serve /healthz, /readyz, /metrics ─ get the lease ─ look at everything once ─┬─ kopf's watches ──> cache, queue
                                            │                                    ├─ workers of the queue ──> reconcile
                                            └─ keep the lease                    ├─ the decision loop ──> queue
                                                                                 ├─ other watches ──> cache, queue
                                                                                 └─ a fresh list each resync ──> queue

Without --lease the two steps about it are left out. With it, other installs of the operator are looked for before each
renewal, and what one of them serves is left alone (`installs.py`). The process ends when it is told to (SIGTERM,
SIGINT), when the lease is lost, or when one of these ends; none is restarted inside, since the pod is restarted
outside, with a clean memory. All state that matters is in the cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from shift_operator import __version__
from shift_operator.api import labels
from shift_operator.api.signals import DeploymentKey
from shift_operator.cluster.cache import Cache
from shift_operator.cluster.client import TIMEOUT_SECONDS, Cluster
from shift_operator.cluster.credentials import Credentials, load_credentials
from shift_operator.cluster.errors import ClusterError, Forbidden, Invalid, Request, Unauthorized
from shift_operator.cluster.lease import Lease
from shift_operator.cluster.resources import GUIDANCE, OPTIONAL, SHIFT_DEPLOYMENTS
from shift_operator.controller.decision_loop import DecisionLoop
from shift_operator.controller.decisions import Decisions
from shift_operator.controller.engines import Engines
from shift_operator.controller.http import Readiness, serve
from shift_operator.controller.installs import Installs
from shift_operator.controller.leadership import an_identity, lead
from shift_operator.controller.metrics import Metrics, Result
from shift_operator.controller.observe import Observer, UnreadableSpec
from shift_operator.controller.optional_kinds import OptionalKinds
from shift_operator.controller.policies import Guidance
from shift_operator.controller.policy_reports import PolicyReports
from shift_operator.controller.prometheus_signals import Looks
from shift_operator.controller.queue import WorkQueue
from shift_operator.controller.reconcile import Reconciler
from shift_operator.controller.settings import Settings
from shift_operator.controller.subjects import Subjects
from shift_operator.controller.watches import watch
from shift_operator.planning.policy_status import PolicyObserved

log = logging.getLogger(__name__)

FINISH_SECONDS = 5.0
"""How long reconciles that are under way may take to finish at the end. Cut short, they lose nothing but time."""
FIRST_LOOK_SECONDS = (1.0, 2.0, 5.0, 10.0)
"""Pauses between tries to list everything at start; the last one repeats."""


class WatchesEnded(Exception):
    """kopf stopped watching though nobody asked it to."""


async def operate(settings: Settings) -> None:
    """Runs the operator until a signal ends it.

    Raises NoCredentials, Forbidden or Unauthorized when the API server is not for us; OSError when the port is taken;
    ExceptionGroup with what ended a running operator.
    """
    stop = asyncio.Event()
    _on_signals(stop)
    metrics, readiness = Metrics(), Readiness()
    async with serve(settings.host, settings.port, metrics, readiness) as port:
        credentials = await load_credentials()
        log.info(
            "started",
            extra={"version": __version__, "api_server": credentials.server, "host": settings.host, "port": port},
        )
        work = _Work(settings, credentials, metrics, readiness, stop)
        if settings.lease is None:
            metrics.leader.set(1)
            await work(Installs(None, None, settings.watch_namespaces, settings.instance), lambda: TIMEOUT_SECONDS)
        else:
            # A client of its own: renewals pass the fence that they keep open, and wait behind no other request.
            async with Cluster(credentials, on_request=metrics.request) as cluster:
                installs = Installs(cluster, settings.lease, settings.watch_namespaces, settings.instance)
                lease = Lease(
                    cluster,
                    *settings.lease,
                    an_identity(),
                    seconds=settings.lease_seconds,
                    marks=installs.marks,
                    before_renewal=installs.look,
                )

                async def work_as_leader() -> bool:
                    await installs.look_once(stop)
                    return await work(installs, lease.fence, lease.held_until)

                await lead(lease, work_as_leader, stop=stop, readiness=readiness, metrics=metrics)
    log.info("ended")


@dataclass(frozen=True)
class _Work:
    """Everything that one process alone may do at a time, until `stop`."""

    settings: Settings
    credentials: Credentials
    metrics: Metrics
    readiness: Readiness
    stop: asyncio.Event

    async def __call__(
        self, installs: Installs, fence: Callable[[], float], watched_until: float | None = None
    ) -> bool:
        """Whether no write can be under way any more when it returns.

        `watched_until`: when the process before this one is known to have worked last, in seconds since the epoch.
        """
        self.readiness.needs("first look at the cluster")
        self.readiness.needs("watches")
        namespaces: tuple[str | None, ...] = self.settings.watch_namespaces or (None,)

        def checked(asked: Request) -> float:
            installs.check(asked)
            return fence()

        async with (
            Cluster(self.credentials, fence=checked, on_request=self.metrics.request) as cluster,
            Engines() as engines,
        ):
            instance = self.settings.instance
            cache = Cache(
                labels.DEPLOYMENT,
                labels.OURS,
                labels.served_by(instance),
                lambda body: (body["metadata"].get("labels") or {}).get(labels.INSTANCE, "") == instance,
            )
            if not await _first_look(cluster, cache, namespaces, self.stop):
                return True
            self.readiness.has("first look at the cluster")
            with Looks() as looks:
                decisions = Decisions(watched_until)
                operator = _Operator(
                    self.settings, self.credentials, cluster, cache, installs, engines, looks, decisions, self.metrics
                )
                return await operator.run(self.readiness, self.stop)


class _Operator:
    """The parts that run side by side once the cluster is known."""

    def __init__(
        self,
        settings: Settings,
        credentials: Credentials,
        cluster: Cluster,
        cache: Cache,
        installs: Installs,
        engines: Engines,
        looks: Looks,
        decisions: Decisions,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._credentials = credentials
        self._cluster = cluster
        self._cache = cache
        self._installs = installs
        namespaces: tuple[str | None, ...] = settings.watch_namespaces or (None,)
        self._kinds = OptionalKinds(cluster, cache, dict.fromkeys(OPTIONAL, namespaces), self._child_changed)
        self._guidance_kinds = OptionalKinds(
            cluster, cache, dict.fromkeys(GUIDANCE, (None,)), lambda _: self._loop.policies_changed()
        )
        guidance = Guidance(cache, settings, self._guidance_kinds.sight)
        observer = Observer(cache, installs.is_ours)
        reconciler = Reconciler(
            cluster,
            cache,
            engines,
            decisions,
            observer,
            metrics,
            optional_kinds=self._kinds,
            known_profiles=guidance.known_profiles,
            ownership=installs.ownership,
            enqueue=lambda key: self._queue.add(key),
            resync_seconds=settings.resync_seconds,
        )

        def done(key: DeploymentKey, seconds: float, error: Exception | None) -> None:
            metrics.reconciled(seconds, _fault_of(error))

        self._reconciler = reconciler
        self._queue = WorkQueue(reconciler.reconcile, on_done=done)
        metrics.queue_depth.set_function(lambda: self._queue.depth)
        self._loop = DecisionLoop(
            looks,
            guidance.in_force,
            Subjects(observer, guidance),
            decisions,
            self._queue.add,
            self._report_policy,
            metrics,
        )
        self._policy_reports = PolicyReports(cluster, cache, guidance.policies)
        installs.on_change = lambda: self._child_changed(None)

    def _child_changed(self, key: DeploymentKey | None) -> None:
        """An optional child of one deployment changed; without `key` that of any may have."""
        for changed in [key] if key else [DeploymentKey(*name) for name in self._cache.names(SHIFT_DEPLOYMENTS)]:
            self._queue.add(changed)

    def _gpus_came_free(self) -> None:
        for key in self._reconciler.gpus_came_free():
            self._queue.add(key)

    async def _report_policy(self, policy: str, observed: PolicyObserved) -> None:
        """An operator of a part of the cluster knows a policy's deployments only in part; of two of the whole cluster
        one serves none."""
        if self._settings.sees_all and self._installs.is_ours(None):
            await self._policy_reports.report(policy, observed)

    async def run(self, readiness: Readiness, stop: asyncio.Event) -> bool:
        """Works until `stop`. Whether every reconcile had ended by then, or was cut short."""
        # A status written before the first look would say that nothing is known, and be written again after it.
        await self._guidance_kinds.look()
        await self._kinds.look()  # a LeaderWorkerSet that is not seen yet must not be taken for absent
        await self._loop.tick()
        for name in self._cache.names(SHIFT_DEPLOYMENTS):
            self._queue.add(DeploymentKey(*name))
        watches_stop = asyncio.Event()

        def started() -> None:
            _on_signals(stop)  # kopf takes the signals for itself when it starts
            readiness.has("watches")

        async def watches() -> None:
            await watch(
                self._credentials,
                self._cache,
                self._queue.add,
                self._gpus_came_free,
                namespaces=self._settings.watch_namespaces,
                on_started=started,
                stop=watches_stop,
            )
            if not watches_stop.is_set():
                raise WatchesEnded("kopf ended; its log says why")

        async with asyncio.TaskGroup() as group:
            ours = [
                group.create_task(self._queue.work(self._settings.workers), name="workers"),
                group.create_task(self._loop.run(), name="decision loop"),
                group.create_task(self._look_again(), name="resync"),
                group.create_task(self._kinds.follow(), name="optional kinds"),
                group.create_task(self._guidance_kinds.follow(), name="policies and profiles"),
            ]
            group.create_task(watches(), name="watches")
            await stop.wait()
            readiness.needs("nothing any more: ending")
            at_rest = await self._queue.finish(FINISH_SECONDS)
            for task in ours:
                task.cancel()
            await asyncio.wait(ours)
            watches_stop.set()  # last: kopf waits for, then cancels, all tasks that began after it
        return at_rest

    async def _look_again(self) -> None:
        """Lists everything each resync, for what the watches missed."""
        namespaces: tuple[str | None, ...] = self._settings.watch_namespaces or (None,)
        while True:
            await asyncio.sleep(self._settings.resync_seconds)
            try:
                for name in await self._cache.relist(self._cluster, namespaces):
                    self._queue.add(DeploymentKey(*name))
            except ClusterError as error:
                log.warning("resync failed", extra={"error": str(error)})


async def _first_look(cluster: Cluster, cache: Cache, namespaces: tuple[str | None, ...], stop: asyncio.Event) -> bool:
    """Lists everything, as often as it takes; False when told to stop before that."""
    async for pause in _pauses():
        try:
            await cache.relist(cluster, namespaces)
        except (Forbidden, Unauthorized):
            raise
        except ClusterError as error:
            # NotFound is a CRD that is not installed yet, or not served yet.
            log.warning("cannot see the cluster", extra={"error": str(error), "again_in_seconds": pause})
        else:
            return True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause)
        if stop.is_set():
            break
    return False


def _fault_of(error: Exception | None) -> Result:
    if error is None:
        return Result.NONE
    return Result.SPEC if isinstance(error, UnreadableSpec | Invalid) else Result.INTERNAL


async def _pauses() -> AsyncIterator[float]:
    for pause in FIRST_LOOK_SECONDS:
        yield pause
    while True:
        yield FIRST_LOOK_SECONDS[-1]


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
