"""SIGKILL of the kubelet leaves no container process; the next kubelet brings its pods up anew."""

from __future__ import annotations

import asyncio
from typing import Any


async def test_nothing_outlives_a_killed_kubelet_and_the_next_one_goes_on(kube: Any, agent: Any) -> None:
    await kube.pod("survivor")
    before = await kube.until_ready("survivor")
    assert agent.processes()
    agent.kill()
    for _ in range(200):
        if not agent.processes():
            break
        await asyncio.sleep(0.05)
    assert agent.processes() == []

    agent.start()
    pod = await kube.until(
        "survivor", lambda pod: pod["status"]["containerStatuses"][0]["restartCount"] == 1 and is_ready(pod)
    )
    assert pod["metadata"]["uid"] == before["metadata"]["uid"]
    last = pod["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert (last["reason"], last["exitCode"]) == ("ContainerStatusUnknown", 137)
    assert pod["status"]["podIP"] != before["status"]["podIP"]


async def test_an_orderly_end_leaves_nothing_either(kube: Any, agent: Any) -> None:
    await kube.pod("ended")
    await kube.until_ready("ended")
    agent.stop()
    assert agent.processes() == []


def is_ready(pod: dict[str, Any]) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"]["conditions"])


async def test_a_node_that_was_called_silent_says_that_it_is_not(kube: Any) -> None:
    unknown = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "silent"}
    path = "/api/v1/nodes/node-a"
    await kube.api.patch(f"{path}/status", {"status": {"conditions": [unknown]}}, "strategic-merge")
    for _ in range(200):
        node = await kube.api.get(path)
        if is_ready({"status": node["status"]}):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the kubelet has let it stand")
