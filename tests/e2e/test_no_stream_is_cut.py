"""Replicas go while eight clients stream from them: no request fails and no stream is cut, with the real engine."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from localcluster import Cluster
from tests.e2e.chat import ENGINE, PATIENCE_SECONDS, Chat, eventually, serving
from tests.e2e.streaming_clients import KEEP_ALIVE, StreamingClients

CLIENTS = 8
# Some seconds each, on two cores that eight streams and up to four engines share.
TOKENS = 400
# Half of the time the clients of the last replica leave the cores to the one that starts beside it.
PAUSE_SECONDS = 4.0
DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "shiftparallel.io/v1alpha1",
    "kind": "ShiftDeployment",
    "metadata": {"name": "chat"},
    "spec": {
        "model": {"uri": "file:///models/tiny", "name": "tiny"},
        "engine": {
            "image": ENGINE,
            "args": ["--enforce-eager", "--dtype=float32", "--max-num-batched-tokens=512", "--max-model-len=1024"],
            "env": [KEEP_ALIVE],
        },
        # How a replica ends does not depend on its degree, and one rank each suits two cores.
        "parallelism": {"gpusPerReplica": 1, "degree": {"sequence": 1, "tensor": 1}},
        "shift": {"mode": "TensorOnly"},
        "replicas": 4,
        "drain": {"timeoutSeconds": 600},
    },
}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """It serves DEPLOYMENT."""
    with serving(DEPLOYMENT, tmp_path, gpus=8) as cluster:
        yield cluster


def pods(cluster: Cluster) -> list[str]:
    """The names of the engine pods, those that end too."""
    selector = "--selector=shiftparallel.io/deployment=chat"
    return cluster.kubectl("get", "pods", selector, "--output=name").split()


def complete(cluster: Cluster) -> bool:
    """Whether the last edit is rolled out and every replica serves."""
    found = json.loads(cluster.kubectl("get", "sd", "chat", "--output=json"))
    reasons = {c["type"]: c["reason"] for c in found.get("status", {}).get("conditions", [])}
    taken_up = found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"]
    return taken_up and reasons.get("Progressing") == "RolloutComplete"


@contextmanager
def following(cluster: Cluster, names: Sequence[str], directory: Path) -> Iterator[dict[str, Path]]:
    """The logs of these pods, whole once they are gone."""
    logs = {name: directory / f"{name.removeprefix('pod/')}.log" for name in names}
    processes = []
    for name, log in logs.items():
        with log.open("w") as out:
            command = [str(cluster.binary("kubectl")), "logs", "--follow", name]
            processes.append(subprocess.Popen(command, env=cluster.environment(), stdout=out, stderr=out))
    try:
        yield logs
        for process in processes:
            process.wait(PATIENCE_SECONDS)
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def drained(log: Path) -> tuple[int, int]:
    """How many requests an engine had when its drain began, and when it was over."""
    text = log.read_text()
    begun, left = re.search(r"drain: (\d+) requests on", text), re.search(r"drain: (\d+) requests left", text)
    assert begun is not None, text[-4000:]
    assert left is not None, text[-4000:]
    return int(begun[1]), int(left[1])


@pytest.mark.timeout(6 * PATIENCE_SECONDS)
async def test_fewer_replicas_and_a_rollout_cut_no_stream(cluster: Cluster, tmp_path: Path) -> None:
    await eventually(lambda: complete(cluster), cluster)
    clients = StreamingClients(Chat(cluster).url, "tiny", CLIENTS, TOKENS, PAUSE_SECONDS)
    first = pods(cluster)
    assert len(first) == 4
    with following(cluster, first, tmp_path) as logs:
        async with clients.running():
            await clients.each_answered_anew(PATIENCE_SECONDS)

            await asyncio.to_thread(cluster.kubectl, "scale", "sd/chat", "--replicas=1")
            await eventually(lambda: len(pods(cluster)) == 1, cluster)
            (left,) = await asyncio.to_thread(pods, cluster)
            await clients.each_answered_anew(PATIENCE_SECONDS)

            edit = {"spec": {"engine": {"env": [KEEP_ALIVE, {"name": "VERSION", "value": "2"}]}}}
            await asyncio.to_thread(cluster.kubectl, "patch", "sd/chat", "--type=merge", "-p", json.dumps(edit))
            await eventually(lambda: complete(cluster) and left not in pods(cluster), cluster)
            await clients.each_answered_anew(PATIENCE_SECONDS)
    assert clients.failures == []
    drains = {name: drained(log) for name, log in logs.items()}
    assert sum(begun for begun, _ in drains.values()) > 0, f"nobody streamed from a replica that ended: {drains}"
    assert all(remaining == 0 for _, remaining in drains.values()), drains
    print(f"{clients.answered} streams of {TOKENS} tokens, 0 failed; requests at SIGTERM: {drains}")
