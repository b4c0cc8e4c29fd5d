"""One pod's life on this node: a task that brings its containers to what the pod asks, until the pod is gone.

Level-based: whatever happens (the pod changed, a process ended, a probe spoke, time passed) only wakes the task, which
then looks at everything anew in `_sync`. It ends when the object is gone from the API server and no process is left.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import aiohttp

from localcluster.kubelet import process
from localcluster.kubelet.api import Api, ApiError
from localcluster.kubelet.attempt import Attempt
from localcluster.kubelet.backoff import Backoff
from localcluster.kubelet.environment import ConfigError
from localcluster.kubelet.events import Events
from localcluster.kubelet.fields import Place
from localcluster.kubelet.images import ImageError, Images
from localcluster.kubelet.launch import ApiServer, prepare
from localcluster.kubelet.layout import PodDir
from localcluster.kubelet.lifecycle import Phase, next_step
from localcluster.kubelet.logs import last_lines
from localcluster.kubelet.objects import Json, is_terminating, key_of, pod_path, seconds_of, uid_of
from localcluster.kubelet.process import Exit, StartError
from localcluster.kubelet.state import ContainerRecord, Role, Running, Terminated, Waiting, records_of
from localcluster.kubelet.status import PodFacts, pod_status, recover
from localcluster.kubelet.volumes import VolumeError, Volumes

log = logging.getLogger(__name__)
RETRY_SECONDS = 1.0
"""After the API server refused or could not be reached."""
CONFIG_RETRY_SECONDS = 5.0
FIRST_VOLUME_RETRY_SECONDS = 0.5
MESSAGE_BYTES = 4096
FALLBACK_LINES, FALLBACK_BYTES = 80, 2048


@dataclass(frozen=True)
class Surroundings:
    """What all pods of a node share. Seconds are the kubelet's options."""

    api: Api
    events: Events
    images: Images
    server: ApiServer
    sync_seconds: Callable[[], float]
    backoff_seconds: float


class PodWorker:
    """`update` and `removed` tell what the API server says; `run` is the task."""

    def __init__(
        self,
        pod: Json,
        around: Surroundings,
        *,
        place: Place,
        gpus: dict[str, list[int]],
        directory: PodDir,
        on_stopped: Callable[[], None],
    ) -> None:
        self.pod, self.around, self.place, self.gpus, self.directory = pod, around, place, gpus, directory
        self.on_stopped = on_stopped
        self.records = records_of(pod)
        self.attempts: dict[str, Attempt] = {}
        recover(self.records, pod.get("status", {}), time.time())
        self._volumes = Volumes(around.api, directory.volumes, place)
        self._crashes = {record.name: Backoff(around.backoff_seconds) for record in self.records}
        self._pulls = {record.name: Backoff(around.backoff_seconds) for record in self.records}
        begun = pod.get("status", {}).get("startTime")
        self._facts = PodFacts(
            place.pod_ip, place.host_ip, seconds_of(begun) if begun else time.time(), sandbox_ready=False
        )
        self._reported: Json | None = None
        self._gone = False
        self._stopped = False
        self._stop_began: float | None = None
        self._wake = asyncio.Event()
        self._volumes_due = 0.0
        self._volume_retry = FIRST_VOLUME_RETRY_SECONDS

    def update(self, pod: Json) -> None:
        """The object changed. Only a change of what users write makes the volumes refresh, as in the kubelet."""
        if _written(pod) != _written(self.pod):
            self._volumes_due = 0.0
        self.pod = pod
        self._wake.set()

    def removed(self, pod: Json) -> None:
        """The object is gone; what still runs must end."""
        self.pod, self._gone = pod, True
        self._wake.set()

    async def run(self) -> None:
        while not (self._gone and self._stopped):
            self._wake.clear()
            try:
                again = await self._sync()
            except (ApiError, aiohttp.ClientError, TimeoutError) as error:
                log.warning("sync failed pod=%s error=%r", key_of(self.pod), error)
                again = RETRY_SECONDS
            except Exception:  # a fault of ours in one sync must not leave the pod untended for good
                log.exception("sync broke pod=%s", key_of(self.pod))
                again = RETRY_SECONDS
            try:
                async with asyncio.timeout(again):
                    await self._wake.wait()
            except TimeoutError:
                continue
        self.directory.remove()

    async def _sync(self) -> float | None:
        """One look at everything. Returns the seconds until the next one is due by time alone."""
        self._collect_ends()
        self._mirror_probes()
        now = time.time()
        if self._gone or is_terminating(self.pod) or self._facts.phase or self._past_deadline(now):
            return await self._wind_down()
        if not await self._refresh_volumes(now):
            await self._report()
            return self._volume_retry
        step = next_step(self.records, self.pod["spec"].get("restartPolicy", "Always"), now)
        if step.over:
            self._facts = replace(self._facts, phase=step.over)
            return await self._wind_down()
        for record in step.start:
            await self._start(record)
        for record in step.waiting:
            self._back_off(record)
        await self._report()
        retries = [record.retry_at for record in self.records if not isinstance(record.state, Running)]
        due = min([self._volumes_due, self._deadline(), *[at for at in retries if at > now]])
        return max(due - time.time(), 0.0)

    async def _refresh_volumes(self, now: float) -> bool:
        """Bring the volumes up to date when they are due. False as long as the pod has not had all of them once."""
        if now < self._volumes_due:
            return True
        try:
            await self._volumes.refresh(self.pod)
        except VolumeError as error:
            self._event("Warning", "FailedMount", str(error))
            if not self._facts.sandbox_ready:
                self._volume_retry = min(self._volume_retry * 2, self.around.sync_seconds())
                return False
        self._facts = replace(self._facts, sandbox_ready=True)
        self._volumes_due = now + self.around.sync_seconds()
        return True

    async def _start(self, record: ContainerRecord) -> None:
        spec, image_name, now = record.spec, record.spec["image"], time.time()
        attempt = record.restarts + 1 if record.ended else record.restarts
        try:
            image = self.around.images.find(image_name)
            self._event("Normal", "Pulled", f'Container image "{image_name}" already present on machine', record)
            prepared = await prepare(
                self.around.api, self.pod, spec, image,
                attempt=attempt, place=self.place, server=self.around.server, gpus=self.gpus.get(record.name, []),
                volumes=self._volumes, directory=self.directory.container(record.name),
            )  # fmt: skip
        except ImageError as error:
            self._pulls[record.name].count(now)
            self._hold(record, "ErrImagePull", str(error), now + self._pulls[record.name].delay())
            self._event("Warning", "Failed", f'Failed to pull image "{image_name}": {error}', record)
            self._event("Warning", "Failed", "Error: ErrImagePull", record)
            return
        except ConfigError as error:
            self._hold(record, "CreateContainerConfigError", str(error), now + CONFIG_RETRY_SECONDS)
            self._event("Warning", "Failed", f"Error: {error}", record)
            return
        self._event("Normal", "Created", f"Container created: {record.name}", record)
        if record.ended:
            record.last, record.restarts = record.ended, attempt
            self._crashes[record.name].count(now)
        record.started = record.ready = False
        try:
            running = await process.start(prepared.order)
        except StartError as error:
            record.state = Terminated(128, "StartError", str(error), 0.0, time.time())
            record.retry_at = self._crashes[record.name].until(time.time())
            self._event("Warning", "Failed", f"Error: {error}", record)
            self._wake.set()
            return
        record.state = Running(time.time())
        record.container_id = f"process://{uid_of(self.pod)}.{record.name}.{attempt}"
        self.attempts[record.name] = Attempt(
            spec, prepared, running,
            address=self.place.pod_ip, grace=self._grace(), changed=self._wake.set,
            tell=lambda kind, reason, message: self._event(kind, reason, message, record),
        )  # fmt: skip
        self._event("Normal", "Started", f"Started container {record.name}", record)
        log.info("started pod=%s container=%s attempt=%d pid=%d", key_of(self.pod), record.name, attempt, running.pid)

    def _hold(self, record: ContainerRecord, reason: str, message: str, until: float) -> None:
        record.last = record.ended
        record.state, record.retry_at = Waiting(reason, message), until

    def _back_off(self, record: ContainerRecord) -> None:
        """Say why it does not start now."""
        pod = self.pod
        if isinstance(record.state, Terminated):
            delay = self._crashes[record.name].delay()
            full_name = f"{key_of(pod).name}_{key_of(pod).namespace}({uid_of(pod)})"
            message = f"back-off {delay:g}s restarting failed container={record.name} pod={full_name}"
            self._hold(record, "CrashLoopBackOff", message, record.retry_at)
            message = f"Back-off restarting failed container {record.name} in pod {full_name}"
            self._event("Warning", "BackOff", message, record)
        elif isinstance(record.state, Waiting) and record.state.reason == "ErrImagePull":
            message = f'Back-off pulling image "{record.spec["image"]}"'
            record.state = Waiting("ImagePullBackOff", f"{message}: ErrImagePull: {record.state.message}")
            self._event("Normal", "BackOff", message, record)
            self._event("Warning", "Failed", "Error: ImagePullBackOff", record)

    def _collect_ends(self) -> None:
        for name, attempt in list(self.attempts.items()):
            if not attempt.process.ended.done():
                continue
            del self.attempts[name]
            record = next(record for record in self.records if record.name == name)
            assert isinstance(record.state, Running)
            end, now = attempt.process.ended.result(), time.time()
            record.state = Terminated(
                exit_code=end.code,
                signal=end.signal,
                reason="Completed" if end.code == 0 else "Error",
                message=self._last_words(record, end),
                started_at=record.state.started_at,
                finished_at=now,
                container_id=record.container_id,
            )
            record.started = record.ready = False
            record.retry_at = self._crashes[name].until(now)
            self._volumes_due = 0.0  # its next start sees the present ConfigMaps
            log.info("ended pod=%s container=%s code=%d", key_of(self.pod), name, end.code)

    def _last_words(self, record: ContainerRecord, end: Exit) -> str:
        """The termination message: its file, or the end of the log where the policy says so."""
        directory = self.directory.container(record.name)
        try:
            written = directory.termination_log.read_bytes()[:MESSAGE_BYTES].decode(errors="replace")
        except OSError:
            written = ""
        if not written and end.code and record.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            return last_lines(directory.log(record.restarts), FALLBACK_LINES, FALLBACK_BYTES)
        return written

    def _mirror_probes(self) -> None:
        for record in self.records:
            if attempt := self.attempts.get(record.name):
                record.started, record.ready = attempt.probes.started, attempt.probes.ready

    async def _wind_down(self) -> float | None:
        """Stop what runs, the sidecars last; then say how it ended and, if it was deleted, let the object go."""
        if self.attempts:
            self._stop_some()
            if not self._gone:
                await self._report()
            return None
        if not self._stopped:
            self._stopped = True
            self._facts = replace(self._facts, phase=self._facts.phase or self._final_phase())
            self.on_stopped()
        if self._gone:
            return None
        await self._report()
        if is_terminating(self.pod):
            body = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid_of(self.pod)}}
            try:
                await self.around.api.delete(pod_path(self.pod), body)
            except ApiError as error:
                if error.code not in (404, 409):
                    raise
            return self.around.sync_seconds()  # should a finalizer keep it, the deletion is asked again
        return None

    def _stop_some(self) -> None:
        last = {record.name for record in self.records if record.role is Role.SIDECAR}
        now_due = [name for name in self.attempts if name not in last] or list(self.attempts)
        if self._stop_began is None:
            self._stop_began = asyncio.get_running_loop().time()
        for name in now_due:
            self.attempts[name].stop(self._stop_began + self._grace(), f"Stopping container {name}")

    def _grace(self) -> float:
        """Seconds that a container has to end: what the deletion says, else the spec; one second at least."""
        asked = self.pod["metadata"].get("deletionGracePeriodSeconds")
        if asked is None:
            asked = self.pod["spec"].get("terminationGracePeriodSeconds", 30)
        return max(float(asked), 1.0)

    def _deadline(self) -> float:
        limit = self.pod["spec"].get("activeDeadlineSeconds")
        return self._facts.start_time + float(limit) if limit else float("inf")

    def _past_deadline(self, now: float) -> bool:
        if now < self._deadline():
            return False
        message = "Pod was active on the node longer than the specified deadline"
        self._facts = replace(self._facts, phase=Phase.FAILED, reason="DeadlineExceeded", message=message)
        self._event("Normal", "DeadlineExceeded", message)
        return True

    def _final_phase(self) -> Phase:
        """A pod stopped from outside: Succeeded only if every container ran to success."""
        ends = [record.ended for record in self.records if record.role is Role.MAIN]
        return Phase.SUCCEEDED if all(end and end.exit_code == 0 for end in ends) else Phase.FAILED

    async def _report(self) -> None:
        """Write the status if it changed, or if another changed it: the node controller marks a silent node's pods."""
        seen = self.pod.get("status", {})
        own = (self._reported or {}).get("conditions", [])
        others = [one for one in seen.get("conditions", []) if one["type"] not in {mine["type"] for mine in own}]
        view = {**self.pod, "status": {**seen, "conditions": [*others, *own]}}
        # A decided end shows only when no process is left: what counts pods or GPUs by the phase relies on that.
        facts = replace(self._facts, phase=None, reason="", message="") if self.attempts else self._facts
        status = pod_status(view, self.records, facts, time.time())
        said = {one["type"]: one["status"] for one in status["conditions"]}
        stands = {one["type"]: one["status"] for one in seen.get("conditions", []) if one["type"] in said}
        if status == self._reported and said == stands:
            return
        try:
            await self.around.api.patch(
                pod_path(self.pod) + "/status",
                {"metadata": {"uid": uid_of(self.pod)}, "status": status},
                "strategic-merge",
            )
        except ApiError as error:
            if error.code not in (404, 409):  # it was deleted or replaced; the watch will say so
                raise
        self._reported = status

    def _event(
        self, kind: Literal["Normal", "Warning"], reason: str, message: str, record: ContainerRecord | None = None
    ) -> None:
        group = "containers" if record and record.role is Role.MAIN else "initContainers"
        path = f"spec.{group}{{{record.name}}}" if record else ""
        self.around.events.record(self.pod, kind, reason, message, node=self.place.node, field_path=path)


def _written(pod: Json) -> Json:
    """The parts whose change means a sync: not the status, not the bookkeeping of the API server."""
    meta = pod["metadata"]
    return {
        "spec": pod["spec"],
        "labels": meta.get("labels"),
        "annotations": meta.get("annotations"),
        "deletion": (meta.get("deletionTimestamp"), meta.get("deletionGracePeriodSeconds")),
    }
