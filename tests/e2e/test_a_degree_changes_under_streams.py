"""Four GPUs go from 4x1 to 2x2 while clients stream from them: live, with the real engine, and no stream is cut.

The edit is a person's: which of the two is faster on the cores of a test machine is chance, so no law can be relied on
to prefer one. That the law's decision takes the same way is tested with engines whose step times are given
(tests/integration/operator/test_a_degree_changes.py).
"""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster import Cluster, NodeSpec
from tests.e2e.streaming_clients import StreamingClients
from tests.e2e.test_no_stream_is_cut import CHART, DEPLOYMENT, PATIENCE_SECONDS, eventually, images

SP4, MIXED = {"sequence": 4, "tensor": 1}, {"sequence": 2, "tensor": 2}
CLIENTS, TOKENS = 4, 100
POLICY = {
    "apiVersion": "shiftparallel.io/v1alpha1",
    "kind": "ClusterShiftPolicy",
    "metadata": {"name": "degrees-are-ours"},
    "spec": {"behavior": {"degree": {"mode": "Disabled"}}},
}


def deployment() -> dict[str, Any]:
    """Every step runs at the degree, so that the streams themselves change over."""
    spec = DEPLOYMENT["spec"] | {
        "parallelism": {"gpusPerReplica": 4, "degree": SP4, "degreeCandidates": [SP4, MIXED]},
        "shift": {"mode": "SequenceOnly"},
        "replicas": 1,
    }
    return DEPLOYMENT | {"spec": spec}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster with the chart's operator and one node of four GPUs."""
    described = tmp_path / "images.yaml"
    described.write_text(yaml.safe_dump({"images": images(tmp_path)}))
    with Cluster(tmp_path / "cluster", nodes=[NodeSpec("node-0", 4)], images=described, prometheus=False) as cluster:
        cluster.helm("install", "shift-operator", str(CHART), "--set=replicas=1")
        cluster.kubectl("apply", "--filename=-", stdin=json.dumps(POLICY))
        cluster.kubectl("apply", "--filename=-", stdin=json.dumps(deployment()))
        yield cluster


def runs(cluster: Cluster, degree: str) -> bool:
    """Whether all ranks confirmed a schedule with the degree."""
    status = json.loads(cluster.kubectl("get", "sd", "chat", "--output=json")).get("status", {})
    conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
    return status.get("degree") == degree and conditions.get("ConfigurationApplied") == "True"


def pod_uid(cluster: Cluster) -> str:
    selector = "--selector=shiftparallel.io/deployment=chat"
    return cluster.kubectl("get", "pods", selector, "--output=jsonpath={.items[*].metadata.uid}")


def steps(url: str) -> dict[str, float]:
    """Steps that the engine has run, by degree."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    found: dict[str, float] = {}
    for labels, value in re.findall(r"^shift_steps_total\{([^}]*)\} (\S+)$", text, re.MULTILINE):
        named = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        degree = f"{named['sequence']}x{named['tensor']}"
        found[degree] = found.get(degree, 0.0) + float(value)
    return found


@pytest.mark.timeout(4 * PATIENCE_SECONDS)
async def test_an_edit_of_the_degree_cuts_no_stream(cluster: Cluster) -> None:
    await eventually(lambda: runs(cluster, "4x1"), cluster)
    service = json.loads(cluster.kubectl("get", "service", "chat", "--output=json"))["spec"]
    url = f"http://{service['clusterIP']}:8000"
    clients = StreamingClients(url, "tiny", CLIENTS, TOKENS)
    before = pod_uid(cluster)
    async with clients.running():
        await clients.each_answered_anew(PATIENCE_SECONDS)
        seen = await asyncio.to_thread(steps, url)
        assert seen["4x1"] > 0

        edit = {"spec": {"parallelism": {"degree": MIXED}}}
        await asyncio.to_thread(cluster.kubectl, "patch", "sd/chat", "--type=merge", "-p", json.dumps(edit))
        await eventually(lambda: runs(cluster, "2x2"), cluster)
        changed = await asyncio.to_thread(steps, url)
        await clients.each_answered_anew(PATIENCE_SECONDS)
        after = await asyncio.to_thread(steps, url)
    assert clients.failures == []
    assert after["2x2"] > changed.get("2x2", 0.0), "the streams went on at the new degree"
    assert pod_uid(cluster) == before, "no pod was replaced"
    print(f"{clients.answered} streams of {TOKENS} tokens, 0 failed; steps by degree: {after}")
