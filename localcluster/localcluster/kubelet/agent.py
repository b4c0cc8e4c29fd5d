"""All nodes of the local cluster in one process: hands each pod bound to one of them to a worker of its own."""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from localcluster.kubelet.addresses import Addresses
from localcluster.kubelet.api import Api, ApiError
from localcluster.kubelet.events import Events
from localcluster.kubelet.fields import Place
from localcluster.kubelet.gpus import GPUs, OutOfGPUs
from localcluster.kubelet.images import Images
from localcluster.kubelet.launch import ApiServer
from localcluster.kubelet.layout import PodDir, pods_below
from localcluster.kubelet.node import Node, NodeSpec
from localcluster.kubelet.objects import Json, Key, is_terminal, is_terminating, key_of, pod_path, uid_of
from localcluster.kubelet.pod_worker import PodWorker, Surroundings
from localcluster.kubelet.process import kill_below
from localcluster.kubelet.reflector import Change, Reflector
from localcluster.kubelet.status import rejected_status

log = logging.getLogger(__name__)
NODE_ADDRESS = "127.0.0.1"
SYNC_JITTER = 0.5
RETRY_SECONDS = 1.0
STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Settings:
    """The kubelet's options; seconds as the real kubelet names them (sync frequency, initial back-off)."""

    nodes: list[NodeSpec]
    root: Path
    images: Path | None
    pod_cidr: str
    api_service: ApiServer
    port: int
    sync_seconds: float = 60.0
    backoff_seconds: float = 10.0


@dataclass
class _OwnNode:
    spec: NodeSpec
    node: Node
    pods: Reflector
    gpus: GPUs
    workers: dict[str, PodWorker] = field(default_factory=dict)
    rejected: set[str] = field(default_factory=set)


class Agent:
    """`start` registers the nodes; `run` keeps everything going; `stop` ends every container at once."""

    def __init__(self, api: Api, settings: Settings) -> None:
        self.api, self.settings = api, settings
        self.events = Events(api)
        self.addresses = Addresses(settings.pod_cidr)
        self.around = Surroundings(
            api=api,
            events=self.events,
            images=Images(settings.images),
            server=settings.api_service,
            sync_seconds=lambda: settings.sync_seconds * random.uniform(1, 1 + SYNC_JITTER),
            backoff_seconds=settings.backoff_seconds,
        )
        self.ready = False
        self._nodes = {spec.name: self._own_node(spec) for spec in settings.nodes}
        self._tasks: set[asyncio.Task[None]] = set()

    def _own_node(self, spec: NodeSpec) -> _OwnNode:
        pods = Reflector(
            self.api,
            "/api/v1/pods",
            lambda change, pod: self._pod_changed(spec.name, change, pod),
            field_selector=f"spec.nodeName={spec.name}",
        )
        return _OwnNode(
            spec, Node(self.api, spec, address=NODE_ADDRESS, port=self.settings.port), pods, GPUs(spec.gpus)
        )

    async def start(self) -> None:
        """Remove what an earlier kubelet left under the root, then register. Raises ApiError."""
        pods = pods_below(self.settings.root)
        if killed := kill_below(pods):
            log.warning("killed processes of an earlier kubelet count=%d", killed)
        shutil.rmtree(pods, ignore_errors=True)
        pods.mkdir(parents=True)
        for own in self._nodes.values():
            await own.node.register()
        self.ready = True

    async def run(self) -> None:
        """Until cancelled."""
        await self._skip_used_addresses()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.events.run())
            for own in self._nodes.values():
                group.create_task(own.node.run())
                group.create_task(own.pods.run())

    async def stop(self) -> None:
        """Kill every container and wait until each is gone; the workers go first, lest they start them again."""
        for task in self._tasks:
            task.cancel()
        attempts = [one for worker in self._workers() for one in worker.attempts.values()]
        for attempt in attempts:
            attempt.process.kill()
        if attempts:
            await asyncio.wait([attempt.process.ended for attempt in attempts], timeout=STOP_SECONDS)

    def worker_of(self, key: Key) -> PodWorker | None:
        """The worker of the pod of that name."""
        return next((worker for worker in self._workers() if key_of(worker.pod) == key), None)

    def pods(self) -> list[Json]:
        return [worker.pod for worker in self._workers()]

    def _workers(self) -> list[PodWorker]:
        return [worker for own in self._nodes.values() for worker in own.workers.values()]

    async def _skip_used_addresses(self) -> None:
        """Pods of an earlier kubelet get new addresses; theirs come again late, like any other."""
        for name in self._nodes:
            for pod in (await self.api.get("/api/v1/pods", fieldSelector=f"spec.nodeName={name}"))["items"]:
                if address := pod.get("status", {}).get("podIP"):
                    self.addresses.skip(address)

    def _pod_changed(self, node: str, change: Change, pod: Json) -> None:
        own, uid = self._nodes[node], uid_of(pod)
        worker = own.workers.get(uid)
        if worker and change == "DELETED":
            worker.removed(pod)
        elif worker:
            worker.update(pod)
        elif change == "DELETED":
            own.rejected.discard(uid)
        elif is_terminal(pod) and is_terminating(pod):
            self._spawn(self._let_go(pod))
        elif not is_terminal(pod) and uid not in own.rejected:
            self._admit(own, pod)

    def _admit(self, own: _OwnNode, pod: Json) -> None:
        uid = uid_of(pod)
        try:
            gpus = own.gpus.assign(pod)
        except OutOfGPUs as error:
            own.rejected.add(uid)
            self._spawn(self._reject(own, pod, "UnexpectedAdmissionError", str(error)))
            return
        pod_ip = NODE_ADDRESS if pod["spec"].get("hostNetwork") else self.addresses.lease(uid)

        def stopped() -> None:
            own.gpus.release(uid)
            self.addresses.give_back(uid)

        worker = own.workers[uid] = PodWorker(
            pod,
            self.around,
            place=Place(own.spec.name, pod_ip, NODE_ADDRESS, own.spec.capacity),
            gpus=gpus,
            directory=PodDir(pods_below(self.settings.root) / uid),
            on_stopped=stopped,
        )
        self._spawn(self._tend(own, uid, worker))

    async def _tend(self, own: _OwnNode, uid: str, worker: PodWorker) -> None:
        await worker.run()
        del own.workers[uid]  # not when cancelled: `stop` still needs its containers

    async def _reject(self, own: _OwnNode, pod: Json, reason: str, message: str) -> None:
        self.events.record(pod, "Warning", reason, message, node=own.spec.name)
        patch = {"metadata": {"uid": uid_of(pod)}, "status": rejected_status(reason, message, time.time())}
        await self._insist(lambda: self.api.patch(f"{pod_path(pod)}/status", patch, "strategic-merge"), pod)

    async def _let_go(self, pod: Json) -> None:
        """A pod without processes that is being deleted: nothing stands against it."""
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid_of(pod)}}
        await self._insist(lambda: self.api.delete(pod_path(pod), body), pod)

    async def _insist(self, request: Callable[[], Awaitable[Json]], pod: Json) -> None:
        """Send it until the API server has taken it, or the pod is gone or another one."""
        while True:
            try:
                await request()
                return
            except ApiError as error:
                if error.code in (404, 409):
                    return
                log.warning("request refused pod=%s error=%s", key_of(pod), error)
            except (aiohttp.ClientError, TimeoutError) as error:
                log.warning("API server unreachable pod=%s error=%r", key_of(pod), error)
            await asyncio.sleep(RETRY_SECONDS)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
