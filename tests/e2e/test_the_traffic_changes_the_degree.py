"""Four GPUs go from 4x1 to 2x2 while clients stream from them: live, with the real engine, and no stream is cut.

First the law does it, from what the real Prometheus sees: short steps give it no reason, long prompts do. Which degree
is faster on the cores of a test machine is chance, so this engine's exchanges among four ranks are slow on purpose
(slow_links.py); what that costs the engine measures, and the law reads. Then a policy hands the degree back to the
user, whose edit takes the same way.
"""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.traffic import Client, Tally
from localcluster import Cluster
from tests.e2e.chat import PATIENCE_SECONDS, Chat, eventually, serving
from tests.e2e.streaming_clients import StreamingClients, prefilling
from tests.e2e.test_no_stream_is_cut import DEPLOYMENT

SP4, MIXED = {"sequence": 4, "tensor": 1}, {"sequence": 2, "tensor": 2}
CLIENTS, TOKENS = 4, 100
# Above every step of the streams alone, below every prefill of so many words, at 3 to 4 tokens each.
THRESHOLD, WORDS = 128, (50, 60, 70)
HOLD_SECONDS = 60  # the least that a policy may ask for
POLICY: dict[str, Any] = {
    "apiVersion": "shiftparallel.io/v1alpha1",
    "kind": "ClusterShiftPolicy",
    "metadata": {"name": "soon"},
    "spec": {
        "intervalSeconds": 3,
        "signals": {"windowSeconds": 60, "maxAgeSeconds": 20},
        "behavior": {"degree": {"holdSeconds": HOLD_SECONDS}},
    },
}


def deployment() -> dict[str, Any]:
    spec = DEPLOYMENT["spec"] | {
        "parallelism": {"gpusPerReplica": 4, "degree": SP4, "degreeCandidates": [SP4, MIXED]},
        "shift": {"mode": "Fixed", "thresholdTokens": THRESHOLD},
        "replicas": 1,
    }
    return DEPLOYMENT | {"spec": spec}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """It serves the deployment under the policy, on four GPUs with slow links between its pairs."""
    slow = ("python", str(Path(__file__).with_name("slow_links.py")))
    with serving(deployment(), tmp_path, gpus=4, policy=POLICY, engine=slow) as cluster:
        yield cluster


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


@pytest.mark.timeout(5 * PATIENCE_SECONDS)
async def test_long_prompts_change_the_degree_then_a_user_does_and_no_stream_is_cut(cluster: Cluster) -> None:
    chat, tally = Chat(cluster), Tally()

    async def until(holds: Callable[[], Any]) -> None:
        await eventually(holds, cluster)

    async def patch(name: str, spec: dict[str, Any]) -> None:
        edit = json.dumps({"spec": spec})
        await asyncio.to_thread(cluster.kubectl, "patch", name, "--type=merge", "-p", edit)

    await until(lambda: chat.runs("4x1"))
    before = pod_uid(cluster)
    clients = StreamingClients(url := chat.url, "tiny", CLIENTS, TOKENS)

    async def goes_on_at(degree: str) -> None:
        """Steps run at the degree, while each client has requests answered."""
        ran = (await asyncio.to_thread(steps, url)).get(degree, 0.0)
        await clients.each_answered_anew(PATIENCE_SECONDS)
        assert (await asyncio.to_thread(steps, url))[degree] > ran

    async with Client(url, "tiny") as client, clients.running():
        await until(lambda: chat.last_reason("Degree") in ("BestAlready", "GainTooSmall"))
        assert await asyncio.to_thread(chat.runs, "4x1"), "short steps run 1x4 whatever the degree"

        async with prefilling(client, tally, WORDS):
            await until(lambda: chat.last_reason("Degree") == "GainTooYoung")
            await until(lambda: chat.runs("2x2") and chat.moved("Degree"))
            decisions = await asyncio.to_thread(chat.decisions, "Degree")
            await goes_on_at("2x2")

            await patch("csp/soon", {"behavior": {"degree": {"mode": "Disabled"}}})
            await until(lambda: chat.runs("4x1"))
            await goes_on_at("4x1")
            await patch("sd/chat", {"parallelism": {"degree": MIXED}})
            await until(lambda: chat.runs("2x2"))
            await goes_on_at("2x2")

    assert clients.failures == []
    assert tally.failures == []
    (change,) = [decision for decision in decisions if decision["from"] != decision["to"]]
    assert (change["from"], change["to"], change["reason"]) == ("4x1", "2x2", "LessStepTime")
    assert "takes effect live" in change["message"]
    assert pod_uid(cluster) == before, "no pod was replaced"
    print(f"{clients.answered + tally.requests} requests, 0 failed; {change['message']}; {steps(url)}")
