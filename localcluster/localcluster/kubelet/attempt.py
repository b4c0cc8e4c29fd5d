"""One attempt of one container, from its running process to its end: hooks, probes, and a stop within its grace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

from localcluster.kubelet import process
from localcluster.kubelet.launch import Prepared
from localcluster.kubelet.objects import Json
from localcluster.kubelet.probe_handlers import PortError, Target, http_get
from localcluster.kubelet.probe_state import ProbeKind
from localcluster.kubelet.probes import FIELDS, Probes
from localcluster.kubelet.process import Exit, Order, Process, StartError

LEAST_GRACE_SECONDS = 2.0
"""What SIGTERM gets at least, however long preStop took (kuberuntime: minimumGracePeriodInSeconds)."""
HOOK_SECONDS = 30.0
Tell = Callable[[Literal["Normal", "Warning"], str, str], None]
"""Records an event about this container: type, reason, message."""


class Attempt:
    """Made once the process runs. `grace` is the pod's; `tell` records events, `changed` wakes the pod's worker."""

    def __init__(
        self,
        container: Json,
        prepared: Prepared,
        running: Process,
        *,
        address: str,
        grace: float,
        tell: Tell,
        changed: Callable[[], None],
    ) -> None:
        self.container, self.prepared, self.process = container, prepared, running
        self.grace, self.tell, self.changed = grace, tell, changed
        self.target = Target(container, address, self.execute)
        self.probes = Probes(
            container, self.target, on_change=changed, on_unhealthy=self._unhealthy, on_dead=self._dead
        )
        self._kill_at = float("inf")
        self._sooner = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None
        self._begin = asyncio.create_task(self._after_start(), name=f"postStart {container['name']}")
        running.ended.add_done_callback(self._ended)

    def stop(self, kill_at: float, why: str) -> None:
        """preStop, SIGTERM, and at `kill_at` (the event loop's clock) SIGKILL. Asked again, it only gets sooner."""
        if kill_at < self._kill_at:
            self._kill_at = kill_at
            self._sooner.set()
        if self._stopping is None and not self.process.ended.done():
            self.tell("Normal", "Killing", why)
            self.probes.stop(ProbeKind.STARTUP, ProbeKind.LIVENESS)
            self._stopping = asyncio.create_task(self._stop(), name=f"stop {self.container['name']}")

    async def _stop(self) -> None:
        loop = asyncio.get_running_loop()
        if hook := self.container.get("lifecycle", {}).get("preStop"):
            running_hook = asyncio.create_task(self._hook("PreStop", hook))
            await self._until(running_hook)
            running_hook.cancel()
            self._kill_at = max(self._kill_at, loop.time() + LEAST_GRACE_SECONDS)
        self.process.terminate()
        await self._until(self.process.ended)
        self.process.kill()

    async def _until(self, done: asyncio.Future[Any]) -> None:
        """Wait for `done`, the process's end or the moment to kill, which may come nearer meanwhile."""
        loop = asyncio.get_running_loop()
        while not done.done() and not self.process.ended.done() and loop.time() < self._kill_at:
            self._sooner.clear()
            sooner = asyncio.create_task(self._sooner.wait())
            waited: set[asyncio.Future[Any]] = {done, self.process.ended, sooner}
            await asyncio.wait(waited, timeout=self._kill_at - loop.time(), return_when=asyncio.FIRST_COMPLETED)
            sooner.cancel()

    async def _after_start(self) -> None:
        hook = self.container.get("lifecycle", {}).get("postStart")
        if hook and not await self._hook("PostStart", hook):
            self.stop(asyncio.get_running_loop().time() + self.grace, "FailedPostStartHook")
            return
        self.probes.start()

    async def _hook(self, name: str, hook: Json) -> bool:
        """Run a lifecycle handler to its end; a failure is told and does not hold up what follows."""
        why = ""
        try:
            if "sleep" in hook:
                await asyncio.sleep(float(hook["sleep"]["seconds"]))
            elif "exec" in hook:
                code, output = await self.execute(hook["exec"]["command"], None)
                why = f"command exited with {code}: {output.strip()}" if code else ""
            elif "httpGet" in hook:
                seen = await http_get(hook["httpGet"], self.target, HOOK_SECONDS)
                why = "" if seen.success else seen.seen
            else:
                why = f"handler {sorted(hook)} is not supported here; use exec, httpGet or sleep"
        except (StartError, PortError) as error:
            why = str(error)
        if why:
            self.tell("Warning", f"Failed{name}Hook", f"{name}Hook failed: {why}")
        return not why

    def order_for(self, command: list[str]) -> Order:
        """A command beside the container's process: its environment, directory and temporary directory."""
        return self.prepared.order.beside([self.prepared.paths.rewrite(part) for part in command])

    async def execute(self, command: list[str], limit: float | None) -> tuple[int, str]:
        """Such a command, run to its end: (exit code, output). Raises TimeoutError after `limit` seconds."""
        try:
            return await process.execute(self.order_for(command), limit)
        except StartError as error:
            return 126, str(error)

    def _unhealthy(self, kind: ProbeKind, seen: str) -> None:
        self.tell("Warning", "Unhealthy", f"{kind.capitalize()} probe failed: {seen}")
        self.changed()

    def _dead(self, kind: ProbeKind) -> None:
        grace = float(self.container[FIELDS[kind]].get("terminationGracePeriodSeconds", self.grace))
        self.stop(
            asyncio.get_running_loop().time() + grace,
            f"Container {self.container['name']} failed {kind} probe, will be restarted",
        )

    def _ended(self, _: asyncio.Future[Exit]) -> None:
        self.probes.stop()
        self._begin.cancel()
        self.changed()
