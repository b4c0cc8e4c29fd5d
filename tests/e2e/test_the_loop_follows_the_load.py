"""A day in short, with the real engine and the real Prometheus: load comes, the metrics go and come back, load ends.

The KV cache is so small that the requests of the clients do not fit into one replica's, on any machine. Step times are
this machine's own; where they give the threshold's law no reason to move, a narrower range does, as a user would.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.traffic import FIRST_FRESH_SEED, Client, Prompt, Tally, ask
from localcluster import Cluster, NodeSpec
from tests.e2e.streaming_clients import KEEP_ALIVE, StreamingClients
from tests.e2e.test_no_stream_is_cut import CHART, ENGINE, PATIENCE_SECONDS, eventually, images

CLIENTS, TOKENS = 6, 300
INTERVAL_SECONDS = 3
# Prefills on both sides of where the two ways to run a step may cross, of 3 to 4 tokens per word; the threshold begins
# below all of them.
WORDS = (10, 20, 30, 40, 60, 80, 100, 120)
POLICY: dict[str, Any] = {
    "apiVersion": "shiftparallel.io/v1alpha1",
    "kind": "ClusterShiftPolicy",
    "metadata": {"name": "short-day"},
    "spec": {
        "selector": {"namespaces": ["default"]},
        "intervalSeconds": INTERVAL_SECONDS,
        "signals": {"windowSeconds": 20, "maxAgeSeconds": 20},
        "behavior": {"replicas": {"stabilizationSeconds": 60}},
        "budget": {"maxGPUs": 8},
    },
}
DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "shiftparallel.io/v1alpha1",
    "kind": "ShiftDeployment",
    "metadata": {"name": "chat"},
    "spec": {
        "model": {"uri": "file:///models/tiny", "name": "tiny"},
        "engine": {
            "image": ENGINE,
            "args": [
                *("--enforce-eager", "--dtype=float32", "--max-num-batched-tokens=512", "--max-model-len=512"),
                *("--block-size=32", "--num-gpu-blocks-override=24"),
            ],
            "env": [KEEP_ALIVE],
        },
        "parallelism": {"gpusPerReplica": 2, "degree": {"sequence": 2, "tensor": 1}},
        "shift": {"mode": "Auto", "thresholdTokens": 16, "thresholdRange": {"min": 16, "max": 256}},
        "scaling": {"mode": "Managed", "minReplicas": 1, "maxReplicas": 2, "policyRef": "short-day"},
        "slo": {"ttft": {"milliseconds": 60_000}},
        "drain": {"timeoutSeconds": 300},
    },
}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster with the operator, the policy and the ShiftDeployment."""
    described = tmp_path / "images.yaml"
    described.write_text(yaml.safe_dump({"images": images(tmp_path)}))
    with Cluster(tmp_path / "cluster", nodes=[NodeSpec("node-0", 8)], images=described, prometheus=True) as cluster:
        url = f"--set=prometheus.url={cluster.prometheus_url}"
        cluster.helm("install", "shift-operator", str(CHART), "--set=replicas=1", url)
        cluster.kubectl("apply", "--filename=-", stdin=json.dumps(POLICY))
        cluster.kubectl("apply", "--filename=-", stdin=json.dumps(DEPLOYMENT))
        yield cluster


class Chat:
    """The ShiftDeployment, read anew at each question."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    @property
    def status(self) -> dict[str, Any]:
        found = json.loads(self._cluster.kubectl("get", "sd", "chat", "--output=json"))
        return dict(found.get("status", {}))

    def serves(self, replicas: int) -> bool:
        return bool(self.status.get("ready") == f"{replicas}/{replicas}")

    @property
    def threshold(self) -> int:
        return int(self.status["shift"]["desired"]["thresholdTokens"])

    def condition(self, type_: str) -> tuple[str, str]:
        conditions = {c["type"]: c for c in self.status.get("conditions", [])}
        return conditions[type_]["status"], conditions[type_]["reason"]

    def decisions(self, kind: str) -> list[dict[str, Any]]:
        return [decision for decision in self.status.get("decisions", []) if decision["kind"] == kind]

    def runs(self, degree: str) -> bool:
        """Whether all ranks confirmed a schedule with the degree."""
        status = self.status
        conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
        return status.get("degree") == degree and conditions.get("ConfigurationApplied") == "True"

    def last_reason(self, kind: str) -> str | None:
        """That of the last decision on a knob; None before the first."""
        decisions = self.decisions(kind)
        return decisions[-1]["reason"] if decisions else None

    def moved(self, kind: str) -> bool:
        """Whether the last move of a knob has come through everywhere."""
        return any(decision["outcome"] == "Applied" for decision in self.decisions(kind))

    def holds_as_best(self) -> bool:
        """Whether this machine's step times give no reason to move the threshold."""
        return self.last_reason("Threshold") in ("BestAlready", "GainTooSmall")


@asynccontextmanager
async def prefilling(client: Client, tally: Tally, lengths: Sequence[int]) -> AsyncIterator[None]:
    """Inside, one prompt after the other, of so many words each in turn, and words of its own."""

    async def ask_all() -> None:
        for seed, words in zip(itertools.count(FIRST_FRESH_SEED), itertools.cycle(lengths), strict=False):
            await ask(client, tally, Prompt(seed, words, max_tokens=1))

    asking = asyncio.create_task(ask_all())
    try:
        yield
    finally:
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking


@pytest.mark.timeout(4 * PATIENCE_SECONDS)
async def test_replicas_and_threshold_follow_the_load_and_hold_unseen(cluster: Cluster) -> None:
    chat, tally = Chat(cluster), Tally()

    async def until(holds: Callable[[], Any]) -> None:
        await eventually(holds, cluster)

    await until(lambda: chat.serves(1))
    assert chat.condition("PolicyApplied") == ("True", "PolicyFound")
    service = json.loads(cluster.kubectl("get", "service", "chat", "--output=json"))["spec"]
    url = f"http://{service['clusterIP']}:8000"
    clients = StreamingClients(url, "tiny", CLIENTS, TOKENS)

    async with Client(url, "tiny") as client, clients.running(), prefilling(client, tally, WORDS):
        await until(lambda: chat.serves(2) and chat.moved("Replicas"))
        await until(lambda: chat.moved("Threshold") or chat.holds_as_best())
        if not await asyncio.to_thread(chat.moved, "Threshold"):
            narrower = {"spec": {"shift": {"thresholdTokens": 64, "thresholdRange": {"min": 64}}}}
            await asyncio.to_thread(cluster.kubectl, "patch", "sd/chat", "--type=merge", "-p", json.dumps(narrower))
            await until(lambda: chat.moved("Threshold"))

        await asyncio.to_thread(cluster.process("prometheus").stop, 10.0)
        await until(lambda: chat.condition("MetricsAvailable") == ("Unknown", "PrometheusUnreachable"))
        await until(lambda: chat.decisions("Replicas")[-1]["reason"] == "PrometheusUnreachable")
        threshold = await asyncio.to_thread(lambda: chat.threshold)
        await asyncio.sleep(5 * INTERVAL_SECONDS)  # in which a loop that does not hold would move something
        assert await asyncio.to_thread(chat.serves, 2)
        assert await asyncio.to_thread(lambda: chat.threshold) == threshold

        await asyncio.to_thread(cluster.restart, "prometheus")
        await until(lambda: chat.condition("MetricsAvailable") == ("True", "MetricsFound"))

    await until(lambda: chat.serves(1))
    policy = json.loads(cluster.kubectl("get", "csp", "short-day", "--output=json"))["status"]
    assert policy["deployments"] == 1
    assert clients.failures == []
    assert tally.failures == []
    moves = [(d["kind"], d["from"], d["to"], d["reason"]) for d in chat.status["decisions"] if d["from"] != d["to"]]
    print(f"{clients.answered + tally.requests} requests, 0 failed; {moves}")
