"""A node has eight GPUs: the ninth stays Pending, and a pod that bypasses the scheduler is refused."""

from __future__ import annotations

from typing import Any


def gpus(count: int) -> dict[str, Any]:
    return {"resources": {"limits": {"nvidia.com/gpu": count}}}


async def test_the_ninth_gpu_stays_pending_until_one_is_free(kube: Any) -> None:
    await kube.pod("eight", **gpus(8))
    await kube.until_ready("eight")
    await kube.pod("ninth", **gpus(1))
    unschedulable = await kube.until("ninth", lambda pod: pod["status"].get("conditions"))
    assert unschedulable["status"]["conditions"][0]["reason"] == "Unschedulable"
    assert "Insufficient nvidia.com/gpu" in unschedulable["status"]["conditions"][0]["message"]
    await kube.delete("pods", "eight")
    await kube.until_ready("ninth")


async def test_a_pod_that_bypasses_the_scheduler_is_rejected(kube: Any) -> None:
    await kube.pod("full", **gpus(6))
    await kube.until_ready("full")
    await kube.pod("intruder", **gpus(3), spec={"nodeName": "node-a"})
    pod = await kube.until("intruder", lambda pod: pod["status"]["phase"] == "Failed")
    assert pod["status"]["reason"] == "UnexpectedAdmissionError"
    assert "Requested: 3, Available: 2" in pod["status"]["message"]


async def test_the_node_says_what_it_has(kube: Any) -> None:
    node = await kube.api.get("/api/v1/nodes/node-a")
    assert node["status"]["capacity"]["nvidia.com/gpu"] == "8"
    assert {"type": "InternalIP", "address": "127.0.0.1"} in node["status"]["addresses"]
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "node-a"
