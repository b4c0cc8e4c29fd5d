"""One operator process from start to end: what runs beside what, and in which order it stops.

    serve /healthz, /readyz, /metrics ─ look at everything once ─┬─ kopf's watches ──> cache, queue
                                                                 ├─ workers of the queue ──> reconcile
                                                                 ├─ the decision loop ──> queue
                                                                 └─ a fresh list of everything each resync ──> queue

The process ends when it is told to (SIGTERM, SIGINT) or when one of these ends; none is restarted inside, since the pod
is restarted outside, with a clean memory. All state that matters is in the cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator

from shift_operator import __version__
from shift_operator.api import labels
from shift_operator.api.signals import DeploymentKey
from shift_operator.cluster.cache import Cache
from shift_operator.cluster.client import Cluster
from shift_operator.cluster.credentials import Credentials, load_credentials
from shift_operator.cluster.errors import ClusterError, Forbidden, Invalid, Unauthorized
from shift_operator.cluster.resources import SHIFT_DEPLOYMENTS
from shift_operator.controller.decision_loop import DecisionLoop, Look
from shift_operator.controller.decisions import Decisions
from shift_operator.controller.engines import Engines
from shift_operator.controller.http import Readiness, serve
from shift_operator.controller.metrics import Metrics, Result
from shift_operator.controller.observe import Observer, UnreadableSpec
from shift_operator.controller.prometheus_signals import looking_at
from shift_operator.controller.queue import WorkQueue
from shift_operator.controller.reconcile import Reconciler
from shift_operator.controller.settings import Settings
from shift_operator.controller.watches import watch

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
    metrics, readiness = Metrics(), Readiness({"first look at the cluster", "watches"})
    namespaces: tuple[str | None, ...] = settings.watch_namespaces or (None,)
    async with serve(settings.host, settings.port, metrics, readiness) as port:
        credentials = await load_credentials()
        log.info(
            "started",
            extra={"version": __version__, "api_server": credentials.server, "host": settings.host, "port": port},
        )
        async with (
            Cluster(credentials, on_request=metrics.request) as cluster,
            Engines() as engines,
            looking_at(settings) as look,
        ):
            cache = Cache(labels.DEPLOYMENT, labels.OURS)
            if await _first_look(cluster, cache, namespaces, stop):
                readiness.has("first look at the cluster")
                operator = _Operator(settings, credentials, cluster, cache, engines, look, metrics)
                await operator.run(readiness, stop)
    log.info("ended")


class _Operator:
    """The parts that run side by side once the cluster is known."""

    def __init__(
        self,
        settings: Settings,
        credentials: Credentials,
        cluster: Cluster,
        cache: Cache,
        engines: Engines,
        look: Look | None,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._credentials = credentials
        self._cluster = cluster
        self._cache = cache
        observer, decisions = Observer(cache), Decisions()
        reconciler = Reconciler(
            cluster,
            cache,
            engines,
            decisions,
            observer,
            metrics,
            resync_seconds=settings.resync_seconds,
        )

        def done(key: DeploymentKey, seconds: float, error: Exception | None) -> None:
            metrics.reconciled(seconds, _fault_of(error))

        self._queue = WorkQueue(reconciler.reconcile, on_done=done)
        metrics.queue_depth.set_function(lambda: self._queue.depth)
        self._loop = DecisionLoop(
            look,
            observer.subjects,
            decisions,
            self._queue.add,
            metrics,
            interval_seconds=settings.decision_interval_seconds,
        )

    async def run(self, readiness: Readiness, stop: asyncio.Event) -> None:
        # A status written before the first look would say that nothing is known, and be written again after it.
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
            ]
            group.create_task(watches(), name="watches")
            await stop.wait()
            readiness.needs("nothing any more: ending")
            await self._queue.finish(FINISH_SECONDS)
            for task in ours:
                task.cancel()
            await asyncio.wait(ours)
            watches_stop.set()  # last: kopf waits for, then cancels, all tasks that began after it

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
