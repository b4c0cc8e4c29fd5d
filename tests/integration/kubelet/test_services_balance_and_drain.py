"""A Service's cluster IP: spread over ready pods, refused without any, open connections outlive a deletion's start."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import aiohttp
import pytest

READY = {"httpGet": {"path": "/ready", "port": 8000}, "periodSeconds": 1, "failureThreshold": 1}


async def a_service(kube: Any, name: str, *pods: str) -> str:
    """The Service's URL, once all its pods are ready."""
    for pod in pods:
        ports = [{"name": "http", "containerPort": 8000}]
        await kube.pod(pod, metadata={"labels": {"app": name}}, ports=ports, readinessProbe=READY)
    spec = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]}
    service = await kube.create("services", name, spec=spec)
    for pod in pods:
        await kube.until_ready(pod)
    return f"http://{service['spec']['clusterIP']}"


async def answers(kube: Any, url: str, count: int) -> Counter[str]:
    return Counter([await kube.fetch(url) for _ in range(count)])


async def until_answers(kube: Any, url: str, *names: str) -> None:
    """Until exactly these pods answer."""
    for _ in range(100):
        try:
            if set(await answers(kube, url, 2 * len(names))) == set(names):
                return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.05)
    raise AssertionError(f"{url} is not answered by {names}")


async def test_connections_are_spread_over_ready_pods(kube: Any) -> None:
    url = await a_service(kube, "spread", "spread-a", "spread-b")
    await until_answers(kube, url, "spread-a", "spread-b")
    assert await answers(kube, url, 10) == {"spread-a": 5, "spread-b": 5}
    pod = await kube.get("pods", "spread-a")
    await kube.fetch(f"http://{pod['status']['podIP']}:8000/set?ready=0")
    await kube.until("spread-a", lambda pod: not pod["status"]["containerStatuses"][0]["ready"])
    await until_answers(kube, url, "spread-b")
    assert await answers(kube, url, 5) == {"spread-b": 5}


async def test_without_a_ready_pod_connections_are_refused(kube: Any) -> None:
    url = await a_service(kube, "alone", "alone")
    await until_answers(kube, url, "alone")
    await kube.delete("pods", "alone")
    await kube.until_gone("alone")
    with pytest.raises(aiohttp.ClientConnectorError):
        await kube.fetch(url)


async def test_an_open_connection_outlives_the_start_of_a_deletion(kube: Any) -> None:
    hook = {"preStop": {"sleep": {"seconds": 4}}}
    ports = [{"name": "http", "containerPort": 8000}]
    await kube.pod(
        "leaving",
        metadata={"labels": {"app": "drain"}},
        ports=ports,
        lifecycle=hook,
        readinessProbe=READY,
        spec={"terminationGracePeriodSeconds": 10},
    )
    url = await a_service(kube, "drain")
    await kube.until_ready("leaving")
    await until_answers(kube, url, "leaving")
    slow = asyncio.create_task(kube.fetch(f"{url}/slow?n=10"))
    await asyncio.sleep(0.3)
    await kube.pod("staying", metadata={"labels": {"app": "drain"}}, ports=ports, readinessProbe=READY)
    await kube.until_ready("staying")
    await kube.delete("pods", "leaving")
    await until_answers(kube, url, "staying")
    assert await slow == "".join(f"{at}\n" for at in range(10))


async def test_unready_addresses_may_be_published(kube: Any) -> None:
    env = [
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "READY", "value": "0"},
    ]
    await kube.pod("unready", metadata={"labels": {"app": "published"}}, env=env, readinessProbe=READY)
    spec = {"selector": {"app": "published"}, "publishNotReadyAddresses": True, "ports": [{"port": 8000}]}
    service = await kube.create("services", "published", spec=spec)
    await until_answers(kube, f"http://{service['spec']['clusterIP']}:8000", "unready")
