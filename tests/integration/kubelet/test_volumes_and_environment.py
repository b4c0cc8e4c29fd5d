"""ConfigMaps, Secrets, the downward API and the ServiceAccount's token, as a container meets them."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from localcluster.kubelet.api import Api, ApiError, Credentials


def url(pod: dict[str, Any], path: str) -> str:
    return f"http://{pod['status']['podIP']}:8000/{path}"


async def ready_server(kube: Any, name: str, **fields: Any) -> dict[str, Any]:
    probe = {"tcpSocket": {"port": 8000}, "periodSeconds": 1}
    await kube.pod(name, readinessProbe=probe, **fields)
    return dict(await kube.until_ready(name))


async def test_a_config_map_volume_is_lazy_until_the_pod_changes(kube: Any) -> None:
    await kube.create("configmaps", "schedule", data={"schedule.json": "one", "other": "x"})
    pod = await ready_server(
        kube,
        "lazy",
        env=[
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "FILE", "value": "/etc/shift/schedule.json"},
        ],
        volumeMounts=[
            {"name": "schedule", "mountPath": "/etc/shift"},
            {"name": "schedule", "mountPath": "/etc/fixed", "subPath": "schedule.json"},
        ],
        spec={"volumes": [{"name": "schedule", "configMap": {"name": "schedule"}}]},
    )
    real = json.loads(await kube.fetch(url(pod, "env")))["FILE"]
    assert await kube.fetch(url(pod, f"file?path={real}")) == "one"
    await kube.patch("configmaps", "schedule", data={"schedule.json": "two"})
    await asyncio.sleep(1.5)
    assert await kube.fetch(url(pod, f"file?path={real}")) == "one"
    await kube.patch("pods", "lazy", metadata={"annotations": {"shiftparallel.io/schedule-generation": "2"}})
    for _ in range(100):
        if await kube.fetch(url(pod, f"file?path={real}")) == "two":
            break
        await asyncio.sleep(0.05)
    else:
        raise AssertionError("the annotation did not make the kubelet refresh the volume")
    fixed = Path(real).parents[2] / "containers/main/mounts/1/schedule.json"
    assert fixed.read_text() == "one"  # a subPath mount is never refreshed


async def test_a_config_map_volume_is_refreshed_in_time_without_any_help(kube: Any) -> None:
    await kube.create("configmaps", "patient", data={"a": "one"})
    pod = await ready_server(
        kube,
        "patient",
        env=[
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "FILE", "value": "/etc/patient/a"},
        ],
        volumeMounts=[{"name": "v", "mountPath": "/etc/patient"}],
        spec={"volumes": [{"name": "v", "configMap": {"name": "patient"}}]},
    )
    real = json.loads(await kube.fetch(url(pod, "env")))["FILE"]
    await kube.patch("configmaps", "patient", data={"a": "two"})
    for _ in range(240):
        if await kube.fetch(url(pod, f"file?path={real}")) == "two":
            return
        await asyncio.sleep(0.25)
    raise AssertionError("no sync has refreshed the volume")


async def test_the_environment(kube: Any) -> None:
    await kube.create("configmaps", "settings", data={"mode": "fast", "level": "3"})
    await kube.create("secrets", "keys", data={"token": base64.b64encode(b"s3cret").decode()})
    pod = await ready_server(
        kube,
        "environment",
        metadata={"labels": {"app": "chat"}, "annotations": {"a/b": "c"}},
        env=[
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "NOTE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['a/b']"}}},
            {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "mode"}}},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
            {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "x", "optional": True}}},
            {"name": "URL", "value": "http://$(POD_IP):8000/$(MODE)"},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        ],
        envFrom=[{"prefix": "S_", "configMapRef": {"name": "settings"}}],
        resources={"limits": {"nvidia.com/gpu": 2, "cpu": 3}},
    )
    env = json.loads(await kube.fetch(url(pod, "env")))
    address = pod["status"]["podIP"]
    expected = {
        "POD_IP": address, "NODE": "node-a", "APP": "chat", "NOTE": "c", "MODE": "fast", "TOKEN": "s3cret",
        "URL": f"http://{address}:8000/fast", "CPU": "3", "S_mode": "fast", "S_level": "3",
    }  # fmt: skip
    assert {key: env.get(key) for key in expected} == expected
    assert len(env["NVIDIA_VISIBLE_DEVICES"].split(",")) == 2
    assert "NONE" not in env
    extra = set(env) - set(expected)
    assert extra == {
        "NVIDIA_VISIBLE_DEVICES", "PATH", "HOME", "TMPDIR", "HOSTNAME", "KUBECONFIG", "KUBERNETES_SERVICE_HOST",
        "KUBERNETES_SERVICE_PORT", "LC_CTYPE",
    } - ({"LC_CTYPE"} - set(env))  # fmt: skip


async def test_the_service_account_token_opens_the_api_server(kube: Any) -> None:
    await kube.create("serviceaccounts", "reader")
    pod = await ready_server(kube, "token", spec={"serviceAccountName": "reader"})
    path = Path(json.loads(await kube.fetch(url(pod, "env")))["KUBECONFIG"])
    config = yaml.safe_load(path.read_text())
    token = Path(config["users"][0]["user"]["tokenFile"]).read_text()
    cluster = config["clusters"][0]["cluster"]
    tls = Credentials.from_kubeconfig(path).tls  # trusts the CA that the pod was given
    async with Api(Credentials(cluster["server"], tls, token)) as api:
        review = await api.create(
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
        )
        assert review["status"]["userInfo"]["username"] == "system:serviceaccount:default:reader"
        assert review["status"]["userInfo"]["extra"]["authentication.kubernetes.io/pod-name"] == ["token"]
        with pytest.raises(ApiError, match="403"):
            await api.get("/api/v1/namespaces/default/pods")
    assert cluster["server"].startswith("https://127.")
    assert (path.parents[2] / "volumes").is_dir()


async def test_a_pod_may_do_without_a_token(kube: Any) -> None:
    pod = await ready_server(kube, "tokenless", spec={"automountServiceAccountToken": False})
    assert "KUBECONFIG" not in json.loads(await kube.fetch(url(pod, "env")))


async def test_a_missing_config_map_volume_holds_the_pod_until_it_is_there(kube: Any) -> None:
    volumes = [{"name": "late", "configMap": {"name": "late"}}]
    await kube.pod("late", spec={"volumes": volumes}, volumeMounts=[{"name": "late", "mountPath": "/late"}])
    event = await kube.until_event("late", "FailedMount")
    assert event["message"] == 'MountVolume.SetUp failed for volume "late" : configmap "late" not found'
    pod = await kube.until("late", lambda pod: "containerStatuses" in pod["status"])
    assert pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ContainerCreating"
    assert pod["status"]["phase"] == "Pending"
    await kube.create("configmaps", "late", data={"a": "b"})
    await kube.until_ready("late")


async def test_a_missing_config_map_key_is_a_config_error_until_it_is_there(kube: Any) -> None:
    reference = {"configMapKeyRef": {"name": "partial", "key": "b"}}
    ip = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    await kube.create("configmaps", "partial", data={"a": "1"})
    await kube.pod("partial", env=[ip, {"name": "B", "valueFrom": reference}])
    pod = await kube.until("partial", lambda pod: pod["status"].get("containerStatuses"))
    waiting = pod["status"]["containerStatuses"][0]["state"]["waiting"]
    assert waiting["reason"] == "CreateContainerConfigError"
    assert waiting["message"] == "couldn't find key b in ConfigMap default/partial"
    await kube.patch("configmaps", "partial", data={"b": "2"})
    await kube.until_ready("partial")


async def test_an_unknown_image_is_waited_for(kube: Any) -> None:
    await kube.pod("unknown", image="example.com/nope:1")
    pod = await kube.until("unknown", lambda pod: waiting_reason(pod) == "ImagePullBackOff")
    assert pod["status"]["phase"] == "Pending"
    event = await kube.until_event("unknown", "Failed")
    assert event["type"] == "Warning"


def waiting_reason(pod: dict[str, Any]) -> str:
    statuses = pod["status"].get("containerStatuses", [{"state": {}}])
    return str(statuses[0]["state"].get("waiting", {}).get("reason", ""))
