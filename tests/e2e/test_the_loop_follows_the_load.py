"""A day in short, with the real engine and the real Prometheus: load comes, the metrics go and come back, load ends.

The KV cache is so small that the requests of the clients do not fit into one replica's, on any machine. Step times are
this machine's own; where they give the threshold's law no reason to move, a narrower range does, as a user would.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.traffic import Client, Tally
from localcluster import Cluster
from tests.e2e.chat import ENGINE, PATIENCE_SECONDS, Chat, eventually, serving
from tests.e2e.streaming_clients import KEEP_ALIVE, StreamingClients, prefilling

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
    """It serves DEPLOYMENT under the policy."""
    with serving(DEPLOYMENT, tmp_path, gpus=8, policy=POLICY) as cluster:
        yield cluster


@pytest.mark.timeout(4 * PATIENCE_SECONDS)
async def test_replicas_and_threshold_follow_the_load_and_hold_unseen(cluster: Cluster) -> None:
    chat, tally = Chat(cluster), Tally()

    async def until(holds: Callable[[], Any]) -> None:
        await eventually(holds, cluster)

    await until(lambda: chat.serves(1))
    assert chat.condition("PolicyApplied") == ("True", "PolicyFound")
    clients = StreamingClients(url := chat.url, "tiny", CLIENTS, TOKENS)

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
