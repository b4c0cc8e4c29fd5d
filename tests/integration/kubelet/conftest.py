"""One cluster for all tests of this folder; each test's objects are removed at its end."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from localcluster.kubelet.api import Api, ApiError, Credentials

from localcluster import Cluster, NodeSpec

Json = dict[str, Any]
SYNC_SECONDS = 15
"""Far more than a test needs to look twice, so that a volume's laziness can be seen."""
IMAGES = {
    "server:1": {"entrypoint": [sys.executable, str(Path(__file__).with_name("server.py"))]},
    "python:3": {"entrypoint": [sys.executable, "-u", "-c"]},
    "sh:1": {"entrypoint": ["/bin/sh", "-c"]},
}
POD_IP = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}


class Agent:
    """The node agent's process, which a test may kill and start again."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.root = cluster.directory / "nodes"

    def kill(self) -> None:
        """As a crash would."""
        self.cluster.process("node-agent").kill()

    def stop(self) -> None:
        """As the cluster's end would."""
        self.cluster.process("node-agent").stop(20)

    def start(self) -> None:
        self.cluster.restart("node-agent")

    def processes(self) -> list[int]:
        """The pids of all containers' processes."""
        mark, found = f"HOME={self.root}/".encode(), []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
        return found


@pytest.fixture(scope="package")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose kubelet is quick to restart containers and slow to refresh volumes."""
    directory = tmp_path_factory.mktemp("nodes")
    images = directory / "images.yaml"
    images.write_text(yaml.safe_dump({"images": IMAGES}))
    flags = {"node-agent": ["--backoff-seconds=1", f"--sync-seconds={SYNC_SECONDS}"]}
    with Cluster(
        directory / "cluster",
        nodes=[NodeSpec("node-a", 8)],
        images=images,
        prometheus=False,
        audit=False,
        extra_flags=flags,
    ) as cluster:
        yield cluster
    assert Agent(cluster).processes() == []


@pytest.fixture
def agent(nodes: Cluster) -> Iterator[Agent]:
    """The node agent; it runs again when the test is over."""
    one = Agent(nodes)
    yield one
    if not nodes.process("node-agent").running:
        one.start()


@dataclass
class Kube:
    """What a test says to the cluster. Everything made with `create` goes at the end."""

    api: Api
    cluster: Cluster
    made: list[tuple[str, str]] = field(default_factory=list)

    async def create(self, kind: str, name: str, **fields: Any) -> Json:
        """`kind` is a core/v1 plural: pods, services, configmaps."""
        self.made.append((kind, name))
        meta = {"name": name, **fields.pop("metadata", {})}
        return await self.api.create(f"/api/v1/namespaces/default/{kind}", {"metadata": meta, **fields})

    async def pod(
        self, pod_name: str, /, *, spec: Json | None = None, metadata: Json | None = None, **container: Any
    ) -> Json:
        """A pod of one container, `server:1` if no image is named."""
        one = {"name": "main", "image": "server:1", "env": [POD_IP], **container}
        whole = {"containers": [one], "terminationGracePeriodSeconds": 2, **(spec or {})}
        return await self.create("pods", pod_name, metadata=metadata or {}, spec=whole)

    async def get(self, kind: str, name: str) -> Json:
        return await self.api.get(f"/api/v1/namespaces/default/{kind}/{name}")

    async def patch(self, kind: str, name: str, **fields: Any) -> Json:
        return await self.api.patch(f"/api/v1/namespaces/default/{kind}/{name}", fields)

    async def delete(self, kind: str, name: str, grace: int | None = None) -> None:
        body = {} if grace is None else {"gracePeriodSeconds": grace}
        await self.api.delete(f"/api/v1/namespaces/default/{kind}/{name}", body)

    async def until(self, name: str, holds: Callable[[Json], Any], seconds: float = 30) -> Json:
        """The pod as soon as `holds(pod)`; fails with its status."""
        pod: Json = {}
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            pod = await self.get("pods", name)
            if holds(pod):
                return pod
            await asyncio.sleep(0.05)
        raise AssertionError(f"pod {name} did not get there in {seconds} s: {json.dumps(pod.get('status'), indent=1)}")

    async def until_ready(self, name: str) -> Json:
        return await self.until(name, is_ready)

    async def until_gone(self, name: str, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                await self.get("pods", name)
            except ApiError as error:
                if error.code != 404:
                    raise
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"pod {name} is still there after {seconds} s")

    async def events(self, name: str) -> dict[str, Json]:
        """Reason -> the newest event about the pod."""
        found = await self.api.get("/api/v1/namespaces/default/events", fieldSelector=f"involvedObject.name={name}")
        return {event["reason"]: event for event in found["items"]}

    async def until_event(self, name: str, reason: str) -> Json:
        for _ in range(200):
            if event := (await self.events(name)).get(reason):
                return event
            await asyncio.sleep(0.05)
        raise AssertionError(f"no event {reason} about {name}; there are {sorted(await self.events(name))}")

    async def fetch(self, url: str) -> str:
        """GET on a connection of its own."""
        headers = {"Connection": "close"}
        async with self.api.http.get(url, headers=headers, ssl=False) as response:
            return await response.text()

    async def kubectl(self, *arguments: str) -> str:
        """kubectl's output. Raises CommandFailed."""
        return await asyncio.to_thread(self.cluster.kubectl, *arguments)


@pytest.fixture
async def kube(nodes: Cluster) -> AsyncIterator[Kube]:
    async with Api(Credentials.from_kubeconfig(nodes.kubeconfig)) as api:
        one = Kube(api, nodes)
        for _ in range(600):
            try:
                node = await api.get("/api/v1/nodes/node-a")
                if is_ready(node) and not node["spec"].get("taints"):
                    break
            except ApiError:
                pass
            await asyncio.sleep(0.05)
        yield one
        for kind, name in reversed(one.made):
            try:
                await one.delete(kind, name, grace=0 if kind == "pods" else None)
            except ApiError as error:
                if error.code != 404:
                    raise


def is_ready(thing: Json) -> bool:
    conditions = thing.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
