"""A degree that has been better for a while, when the operator is killed: the next process waits the rest, and no more.

The change takes a rollout here, which fails: the decision is then RolledBack, and the degree that serves stays.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.integration.operator.test_a_degree_changes import MIXED, PARALLELISM, SP4, pod_uids, runs
from tests.integration.operator.test_replicas_follow_the_traffic import traffic

HOLD_SECONDS = 60  # the least that a policy may say
GPU = "NVIDIA-H100-80GB-HBM3"
INSTANCE = "forgetful"


@pytest.fixture
def measured(cluster: Any, place: Any) -> Iterator[str]:
    """The node names its GPUs, and a ShiftProfile tells the KV cache at either degree. Gives the URI of the model."""
    model = f"file:///models/{place.namespace}"
    cluster.kubectl("label", "nodes", "--all", f"nvidia.com/gpu.product={GPU}")
    points = [{"tokens": 1, "microseconds": 9000}, {"tokens": 2048, "microseconds": 20_000}]
    key = {"model": model, "gpu": GPU, "gpusPerReplica": 4, "degree": SP4, "engineVersion": "0.1.0"}
    curves = [{**degree, "points": points} for degree in ({"sequence": 1, "tensor": 4}, SP4)]
    kv = {"kvTokens": 480_000, "otherDegrees": [{**MIXED, "kvTokens": 480_000}]}
    profile = {
        "apiVersion": "shiftparallel.io/v1alpha1",
        "kind": "ShiftProfile",
        "metadata": {"name": place.namespace},
        "spec": {"key": key, "source": "User", "curves": curves, **kv},
    }
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(profile))
    yield model
    cluster.kubectl("label", "nodes", "--all", "nvidia.com/gpu.product-")
    cluster.kubectl("delete", "shiftprofiles", "--all")


def test_the_rest_is_waited_for_and_a_rollout_that_fails_is_told(
    place: Any,
    prometheus: Any,
    measured: str,
    a_deployment: Callable[..., dict[str, Any]],
    a_policy: Callable[..., str],
    start: Callable[..., Any],
    installed: Path,
) -> None:
    def degree_outcomes() -> list[str]:
        return [d["outcome"] for d in place.decisions("Degree") if d["from"] != d["to"]]

    def better_degrees() -> list[dict[str, Any]]:
        memory = place.get("sd", "chat")["status"].get("memory", {})
        return list(memory.get("betterDegrees", []))

    flags = ("--instance", INSTANCE, "--resync-seconds", "1", "--prometheus-url", prometheus.url)
    lease = ("--lease", "shift-system/shift-operator", "--lease-seconds", "12")
    first = start(installed, *flags, *lease)
    place.eventually(first.ready)
    a_policy(behavior={"degree": {"holdSeconds": HOLD_SECONDS}, "replicas": {"mode": "Disabled"}})
    seen = [(labels, v) for labels, v in traffic(place.namespace, 10.0, pods=1) if labels["signal"] != "step_time"]
    own = {"namespace": place.namespace, "deployment": "chat", "signal": "step_time"}
    for sequence, seconds in ((1, 0.010), (4, 0.030), (2, 0.020)):
        degree = {"sequence": str(sequence), "tensor": str(4 // sequence)}
        seen += [(own | degree | {"tokens": str(tokens)}, seconds) for tokens in (1, 2048)]
    prometheus.tell(seen)
    body = a_deployment(
        parallelism=PARALLELISM,
        model={"uri": measured, "name": "fixed"},
        rollout={"progressDeadlineSeconds": 60, "maxUnavailable": 0},
    )
    body["metadata"]["labels"] = {"shiftparallel.io/operator": INSTANCE}
    place.apply(body)
    place.eventually(lambda: runs(place, "4x1"))
    before = pod_uids(place)
    place.eventually(better_degrees)
    since = better_degrees()
    first.process.kill()
    first.process.wait()

    second = start(installed, *flags, *lease)
    place.eventually(second.ready)
    assert better_degrees() == since, "it goes on waiting"
    place.eventually(degree_outcomes)
    (move,) = [d for d in place.decisions("Degree") if d["from"] != d["to"]]
    assert (move["to"], move["reason"]) == ("2x2", "LessStepTime")
    assert "takes effect by a rollout" in move["message"]
    waited = datetime.fromisoformat(move["time"]) - datetime.fromisoformat(since[0]["since"])
    assert waited.total_seconds() >= HOLD_SECONDS

    place.eventually(lambda: degree_outcomes() == ["RolledBack"])
    assert "no memory for degree 2x2" in place.condition("Progressing")["message"]
    place.eventually(lambda: place.get("sd", "chat")["status"]["degree"] == "4x1")
    place.eventually(lambda: pod_uids(place) == before)
    place.eventually(lambda: [place.decisions("Degree")[-1][end] for end in ("from", "to")] == ["4x1", "4x1"])
    assert second.end() == 0
