"""Readiness takes a pod out, liveness restarts it, startup holds both back; by HTTP, TCP and command."""

from __future__ import annotations

from typing import Any


async def test_readiness_follows_the_container(kube: Any) -> None:
    probe = {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1, "failureThreshold": 1}
    await kube.pod("readiness", ports=[{"name": "http", "containerPort": 8000}], readinessProbe=probe)
    pod = await kube.until_ready("readiness")
    await kube.fetch(f"http://{pod['status']['podIP']}:8000/set?ready=0")
    pod = await kube.until("readiness", lambda pod: not pod["status"]["containerStatuses"][0]["ready"])
    conditions = {one["type"]: one for one in pod["status"]["conditions"]}
    assert conditions["Ready"]["reason"] == "ContainersNotReady"
    assert pod["status"]["phase"] == "Running"
    event = await kube.until_event("readiness", "Unhealthy")
    assert event["message"] == "Readiness probe failed: HTTP probe failed with statuscode: 503"
    await kube.fetch(f"http://{pod['status']['podIP']}:8000/set?ready=1")
    await kube.until_ready("readiness")


async def test_liveness_restarts_the_container(kube: Any) -> None:
    probe = {"httpGet": {"path": "/live", "port": 8000}, "periodSeconds": 1, "failureThreshold": 2}
    await kube.pod("liveness", livenessProbe=probe, readinessProbe={"tcpSocket": {"port": 8000}, "periodSeconds": 1})
    pod = await kube.until_ready("liveness")
    await kube.fetch(f"http://{pod['status']['podIP']}:8000/set?live=0")
    pod = await kube.until("liveness", lambda pod: pod["status"]["containerStatuses"][0]["restartCount"] == 1)
    assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 143
    event = await kube.until_event("liveness", "Killing")
    assert event["message"] == "Container main failed liveness probe, will be restarted"
    await kube.until_ready("liveness")


async def test_startup_holds_the_others_back(kube: Any) -> None:
    await kube.pod(
        "startup",
        startupProbe={
            "exec": {"command": ["test", "-e", "/state/started"]},
            "periodSeconds": 1,
            "failureThreshold": 60,
        },
        livenessProbe={
            "exec": {"command": ["test", "-e", "/state/started"]},
            "periodSeconds": 1,
            "failureThreshold": 1,
        },
        volumeMounts=[{"name": "state", "mountPath": "/state"}],
        spec={"volumes": [{"name": "state", "emptyDir": {}}]},
        image="sh:1",
        args=["sleep 2; touch /state/started; exec sleep 600"],
    )
    pod = await kube.until("startup", lambda pod: pod["status"]["phase"] == "Running")
    assert not pod["status"]["containerStatuses"][0]["started"]
    pod = await kube.until_ready("startup")
    assert pod["status"]["containerStatuses"][0]["started"]
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0


async def test_a_startup_probe_that_gives_up_restarts(kube: Any) -> None:
    probe = {"tcpSocket": {"port": 9}, "periodSeconds": 1, "failureThreshold": 1}
    await kube.pod("hopeless", startupProbe=probe)
    await kube.until("hopeless", lambda pod: pod["status"].get("containerStatuses", [{}])[0].get("restartCount"))
    event = await kube.until_event("hopeless", "Killing")
    assert event["message"] == "Container main failed startup probe, will be restarted"


async def test_a_readiness_gate_is_honoured(kube: Any) -> None:
    await kube.pod("gated", spec={"readinessGates": [{"conditionType": "example.com/warm"}]})
    pod = await kube.until("gated", lambda pod: pod["status"].get("containerStatuses", [{}])[0].get("ready"))
    conditions = {one["type"]: one for one in pod["status"]["conditions"]}
    assert conditions["ContainersReady"]["status"] == "True"
    assert conditions["Ready"]["reason"] == "ReadinessGatesNotReady"
    warm = {"type": "example.com/warm", "status": "True", "lastTransitionTime": "2026-11-24T11:00:00Z"}
    path = "/api/v1/namespaces/default/pods/gated/status"
    await kube.api.patch(path, {"status": {"conditions": [warm]}}, "strategic-merge")
    await kube.until_ready("gated")
