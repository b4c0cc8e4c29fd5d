"""The work queue: which ShiftDeployments to reconcile, each by one worker at a time.

A key's life:

    add ──> ready ──> working ──> done ──> (nothing, or due again after the seconds its reconcile asked for)
              ^          │
              │          ├── added meanwhile: ready again as soon as done, whatever the reconcile asked for
              │          └── failed: due again after a pause that doubles with each failure in a row
              └── due <──┘

- A key that is ready, or is working and was added meanwhile, takes no second place: a hundred changes, one reconcile.
- An `add` overtakes any pause: news may be the cure. A pause after an error with a time of its own (`Throttled`)
  lasts that long.
- The queue holds keys, never what happened to them: `reconcile` reads the state, so no event can be lost or come late.

Time is the event loop's, so that tests run on a virtual one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self

from shift_operator.api.signals import DeploymentKey
from shift_operator.cluster.errors import ClusterError, Throttled

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 60.0
RECONCILE_SECONDS = 60.0
"""A reconcile that takes longer is given up and comes again: one hung call must not keep a worker for ever."""


@dataclass(frozen=True)
class Again:
    """When a key is to be reconciled without any news: `seconds` from now, or never (None)."""

    seconds: float | None

    @classmethod
    def never(cls) -> Self:
        return cls(None)

    @classmethod
    def after(cls, seconds: float) -> Self:
        return cls(seconds)

    def at_latest(self, seconds: float | None) -> Again:
        """The sooner of this and `seconds` from now; None sets no limit."""
        if seconds is None or (self.seconds is not None and self.seconds <= seconds):
            return self
        return Again.after(seconds)


Reconcile = Callable[[DeploymentKey], Awaitable[Again]]


class WorkQueue:
    """`on_done(key, seconds, error)` is told of each finished reconcile; `jitter` spreads pauses, 0.1 for ±10 %."""

    def __init__(
        self,
        reconcile: Reconcile,
        *,
        jitter: float = 0.1,
        on_done: Callable[[DeploymentKey, float, Exception | None], None] = lambda key, seconds, error: None,
    ) -> None:
        self._reconcile = reconcile
        self._jitter = jitter
        self._on_done = on_done
        self._ready: asyncio.Queue[DeploymentKey] = asyncio.Queue()
        self._waiting: set[DeploymentKey] = set()
        self._working: set[DeploymentKey] = set()
        self._due: dict[DeploymentKey, asyncio.TimerHandle] = {}
        self._failures: dict[DeploymentKey, int] = {}
        self._finishing = False
        self._at_rest = asyncio.Event()

    @property
    def depth(self) -> int:
        """Keys that wait for a worker now."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is worked on; keys may still be due later."""
        return not self._waiting and not self._working

    def add(self, key: DeploymentKey) -> None:
        """Asks for a reconcile of this key, now."""
        if key not in self._waiting:
            self._waiting.add(key)
            if key not in self._working:
                self._ready.put_nowait(key)

    async def finish(self, seconds: float) -> bool:
        """Begins no reconcile any more and waits for those under way, `seconds` at most. Whether all have ended."""
        self._finishing = True
        if self._working:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._at_rest.wait(), seconds)
        return not self._working

    async def work(self, workers: int) -> None:
        """Reconciles what is added, `workers` at a time, until cancelled; what is under way then is cut short."""
        async with asyncio.TaskGroup() as group:
            for number in range(workers):
                group.create_task(self._worker(), name=f"reconcile worker {number}")

    async def _worker(self) -> None:
        while True:
            key = await self._ready.get()
            if self._finishing:
                return
            self._waiting.discard(key)
            self._working.add(key)
            self._forget_due(key)
            again = await self._once(key)
            self._working.discard(key)
            if self._finishing and not self._working:
                self._at_rest.set()
            if key in self._waiting:
                self._ready.put_nowait(key)
            elif again.seconds is not None:
                self._add_after(key, again.seconds)

    async def _once(self, key: DeploymentKey) -> Again:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        error: Exception | None = None
        try:
            async with asyncio.timeout(RECONCILE_SECONDS):
                again = await self._reconcile(key)
            self._failures.pop(key, None)
        except Exception as caught:  # the one place where a reconcile's error ends: logged once, with key and delay
            error = caught
            again = self._pause_after(key, caught)
        self._on_done(key, loop.time() - begun, error)
        return again

    def _pause_after(self, key: DeploymentKey, error: Exception) -> Again:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        seconds = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 20))
        seconds *= 1 + random.uniform(-self._jitter, self._jitter)
        if isinstance(error, Throttled):
            seconds = max(seconds, error.after)
        fields = {"key": str(key), "error": str(error) or type(error).__name__, "failures": failures}
        # A stack trace helps where the code is wrong, not where the cluster is.
        bug = not isinstance(error, ClusterError | TimeoutError)
        log.error(
            "reconcile failed", extra=fields | {"again_in_seconds": round(seconds, 2)}, exc_info=error if bug else None
        )
        return Again.after(seconds)

    def _add_after(self, key: DeploymentKey, seconds: float) -> None:
        self._forget_due(key)
        self._due[key] = asyncio.get_running_loop().call_later(seconds, self._is_due, key)

    def _is_due(self, key: DeploymentKey) -> None:
        self._due.pop(key, None)
        self.add(key)

    def _forget_due(self, key: DeploymentKey) -> None:
        timer = self._due.pop(key, None)
        if timer is not None:
            timer.cancel()
