"""Looks at a running container again and again: startup first, then readiness and liveness, each at its own period."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from localcluster.kubelet.objects import Json
from localcluster.kubelet.probe_handlers import Target, look
from localcluster.kubelet.probe_state import ProbeKind, ProbeState, Timing

FIELDS = {ProbeKind.STARTUP: "startupProbe", ProbeKind.READINESS: "readinessProbe", ProbeKind.LIVENESS: "livenessProbe"}
OnFailure = Callable[[ProbeKind, str], None]


class Probes:
    """The probes of one attempt of one container.

    `started` and `ready` are the container's; `on_change` is called when one of them moved, `on_unhealthy(kind, seen)`
    for each failed look, `on_dead(kind)` once when startup or liveness failed for good.
    """

    def __init__(
        self,
        container: Json,
        target: Target,
        *,
        on_change: Callable[[], None],
        on_unhealthy: OnFailure,
        on_dead: Callable[[ProbeKind], None],
    ) -> None:
        self.container, self.target = container, target
        self.on_change, self.on_unhealthy, self.on_dead = on_change, on_unhealthy, on_dead
        self.started = False
        self.ready = False
        self._running_since = 0.0
        self._tasks: dict[ProbeKind, asyncio.Task[None]] = {}

    def start(self) -> None:
        """The container runs and its postStart hook has ended."""
        self._running_since = asyncio.get_running_loop().time()
        if FIELDS[ProbeKind.STARTUP] in self.container:
            self._begin(ProbeKind.STARTUP)
        else:
            self._has_started()

    def stop(self, *kinds: ProbeKind) -> None:
        """End these probes, all if none is named."""
        for kind in kinds or tuple(self._tasks):
            if task := self._tasks.pop(kind, None):
                task.cancel()

    def _has_started(self) -> None:
        self.started = True
        self.ready = FIELDS[ProbeKind.READINESS] not in self.container
        for kind in (ProbeKind.READINESS, ProbeKind.LIVENESS):
            if FIELDS[kind] in self.container:
                self._begin(kind)
        self.on_change()

    def _begin(self, kind: ProbeKind) -> None:
        self._tasks[kind] = asyncio.create_task(self._run(kind, self.container[FIELDS[kind]]), name=f"{kind} probe")

    async def _run(self, kind: ProbeKind, probe: Json) -> None:
        timing = Timing.of(probe)
        state = ProbeState(kind, timing)
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(self._running_since + timing.initial_delay - loop.time(), 0))
        while True:
            due = loop.time() + timing.period
            seen = await look(probe, self.target, timing.timeout)
            settled = state.see(seen.success)
            if not seen.success:
                self.on_unhealthy(kind, seen.seen)
            if settled and kind is ProbeKind.READINESS and self.ready != state.good:
                self.ready = state.good
                self.on_change()
            elif settled and kind is not ProbeKind.READINESS and not state.good:
                self.on_dead(kind)
                return
            elif settled and kind is ProbeKind.STARTUP:
                self._has_started()
                return
            await asyncio.sleep(max(due - loop.time(), 0))
