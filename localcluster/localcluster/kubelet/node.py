"""A node's object and its signs of life: the lease that says it is there, the conditions that say it is well."""

from __future__ import annotations

import asyncio
import logging
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from localcluster.kubelet.api import Api, ApiError
from localcluster.kubelet.gpus import RESOURCE
from localcluster.kubelet.objects import Json, micro_stamp, stamp

log = logging.getLogger(__name__)
VERSION = "v1.37.2"
LEASE_SECONDS = 40
RENEW_SECONDS = 3.0
STATUS_SECONDS = 60.0
DECLARED_FEATURES = ["ExtendWebSocketsToKubelet"]
"""The API server then hands `kubectl exec` over as the WebSocket it came as, instead of translating it to SPDY."""
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
CAPACITY: Mapping[str, str] = {"cpu": "64", "memory": "512Gi", "ephemeral-storage": "512Gi", "pods": "110"}
"""A GPU machine's, not this one's: pods ask for what they need on a real cluster and must find a place here too."""

HEALTHY = {
    "MemoryPressure": ("False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    "DiskPressure": ("False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    "PIDPressure": ("False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    "Ready": ("True", "KubeletReady", "kubelet is posting ready status"),
}


@dataclass(frozen=True)
class NodeSpec:
    """A node as the command line asks for it: `NAME:GPUS`."""

    name: str
    gpus: int

    @classmethod
    def parse(cls, text: str) -> NodeSpec:
        name, colon, gpus = text.partition(":")
        if not name or not colon or not gpus.isdigit():
            raise ValueError(f"node {text!r}: write NAME:GPUS, for example node-0:8")
        return cls(name, int(gpus))

    @property
    def capacity(self) -> Json:
        return {**CAPACITY, RESOURCE: str(self.gpus)}


class Node:
    """Registers one node and keeps it alive in the eyes of the node controller."""

    def __init__(self, api: Api, spec: NodeSpec, *, address: str, port: int) -> None:
        self.api, self.spec, self.address, self.port = api, spec, address, port
        self.uid = ""
        self._report_at = 0.0

    async def register(self) -> None:
        """Create the node or take over the one of that name. Raises ApiError."""
        labels = {
            "kubernetes.io/hostname": self.spec.name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": MACHINES.get(platform.machine(), platform.machine()),
        }
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.spec.name, "labels": labels}}
        try:
            made = await self.api.create("/api/v1/nodes", body)
        except ApiError as error:
            if error.code != 409:
                raise
            made = await self.api.patch(f"/api/v1/nodes/{self.spec.name}", {"metadata": {"labels": labels}})
        self.uid = made["metadata"]["uid"]
        await self._renew()
        await self._report()
        log.info("node registered node=%s gpus=%d", self.spec.name, self.spec.gpus)

    async def run(self) -> None:
        """Heartbeats until cancelled."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                await self._renew()
                await self._report()
            except ApiError as error:
                log.warning("heartbeat refused node=%s error=%s", self.spec.name, error)
                if error.code == 404:  # somebody deleted the node: a running kubelet registers again
                    await self._register_again()
            except (aiohttp.ClientError, TimeoutError) as error:
                log.warning("heartbeat lost node=%s error=%r", self.spec.name, error)

    async def _register_again(self) -> None:
        try:
            await self.register()
        except (ApiError, aiohttp.ClientError, TimeoutError) as error:
            log.warning("registration failed node=%s error=%r", self.spec.name, error)

    async def _renew(self) -> None:
        leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        spec = {
            "holderIdentity": self.spec.name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": micro_stamp(time.time()),
        }
        try:
            await self.api.patch(f"{leases}/{self.spec.name}", {"spec": spec})
        except ApiError as error:
            if error.code != 404:
                raise
            owner = {"apiVersion": "v1", "kind": "Node", "name": self.spec.name, "uid": self.uid}
            meta = {"name": self.spec.name, "ownerReferences": [owner]}
            await self.api.create(
                leases, {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
            )

    async def _report(self) -> None:
        """Write the status if it is due, or if the node controller wrote otherwise after a silence."""
        now = stamp(time.time())
        seen = await self.api.get(f"/api/v1/nodes/{self.spec.name}")
        before = {one["type"]: one for one in seen.get("status", {}).get("conditions", [])}
        agreed = all(before.get(kind, {}).get("status") == status for kind, (status, _, _) in HEALTHY.items())
        if agreed and time.monotonic() < self._report_at:
            return
        conditions = []
        for kind, (status, reason, message) in HEALTHY.items():
            old = before.get(kind, {})
            since = old["lastTransitionTime"] if old.get("status") == status else now
            conditions.append(
                {"type": kind, "status": status, "reason": reason, "message": message,
                 "lastHeartbeatTime": now, "lastTransitionTime": since}
            )  # fmt: skip
        report: Json = {
            "capacity": self.spec.capacity,
            "allocatable": self.spec.capacity,
            "addresses": [
                {"type": "InternalIP", "address": self.address},
                {"type": "Hostname", "address": self.spec.name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.port}},
            "conditions": conditions,
            "declaredFeatures": DECLARED_FEATURES,
            "nodeInfo": _node_info(self.spec.name),
        }
        await self.api.patch(f"/api/v1/nodes/{self.spec.name}/status", {"status": report}, "strategic-merge")
        self._report_at = time.monotonic() + STATUS_SECONDS


def _node_info(name: str) -> Json:
    return {
        "machineID": name,
        "systemUUID": name,
        "bootID": name,
        "kernelVersion": platform.release(),
        "osImage": "processes on one machine",
        "containerRuntimeVersion": "process://1",
        "kubeletVersion": VERSION,
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": MACHINES.get(platform.machine(), platform.machine()),
    }
