"""The replica's container: command line, environment, probes, volumes and GPUs (docs/contract.md, section 1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from shift_operator.api.model import S3_VARIABLES
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.pod import pod_spec, pod_template

Build = Callable[..., ShiftDeployment]


def container(deployment: ShiftDeployment) -> dict[str, Any]:
    (only,) = pod_spec(deployment)["containers"]
    assert isinstance(only, dict)
    return only


def variables(deployment: ShiftDeployment) -> dict[str, Any]:
    return {v["name"]: v.get("value", v.get("valueFrom")) for v in container(deployment)["env"]}


def test_the_command_line(a_deployment: Build) -> None:
    deployment = a_deployment(engine={"args": ["--enforce-eager", "--dtype", "float32"]}, drain={"timeoutSeconds": 30})
    assert container(deployment)["args"] == [
        "serve", "/models/tiny",
        "--served-model-name", "chat",
        "--host", "$(POD_IP)",
        "--port", "8000",
        "--tensor-parallel-size", "2",
        "--shift-degree", "2x1",
        "--shift-schedule-file", "/etc/shift/schedule.json",
        "--shutdown-timeout", "30",
        "--enforce-eager", "--dtype", "float32",
    ]  # fmt: skip


def test_the_environment(a_deployment: Build) -> None:
    deployment = a_deployment(engine={"env": [{"name": "NCCL_DEBUG", "value": "INFO"}, {"name": "EMPTY", "value": ""}]})
    assert variables(deployment) == {
        "POD_IP": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}},
        "POD_NAME": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}},
        "POD_NAMESPACE": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
        "SHIFT_TERMINATION_LOG": container(deployment)["terminationMessagePath"],
        "NCCL_DEBUG": "INFO",
        "EMPTY": None,
    }


def test_a_replica_gets_all_of_its_gpus_under_the_resources_name(a_deployment: Build) -> None:
    deployment = a_deployment(scheduling={"resourceName": "amd.com/gpu"})
    assert container(deployment)["resources"] == {"limits": {"amd.com/gpu": "2"}, "requests": {"amd.com/gpu": "2"}}


def test_the_schedule_is_mounted_as_a_directory(a_deployment: Build) -> None:
    spec = pod_spec(a_deployment())
    (mount,) = (m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "schedule")
    assert mount == {"name": "schedule", "mountPath": "/etc/shift", "readOnly": True}
    assert {"name": "schedule", "configMap": {"name": "chat-schedule"}} in spec["volumes"]


def test_every_probe_asks_for_health_at_the_http_port(a_deployment: Build) -> None:
    engine = container(a_deployment())
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert engine[probe]["httpGet"] == {"path": "/health", "port": "http", "scheme": "HTTP"}
    assert engine["ports"] == [{"name": "http", "containerPort": 8000, "protocol": "TCP"}]


def test_the_pod_has_no_rights_and_no_service_variables(a_deployment: Build) -> None:
    spec = pod_spec(a_deployment())
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container(a_deployment())["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }


def test_its_labels_are_the_contracts(a_deployment: Build) -> None:
    assert pod_template(a_deployment())["metadata"]["labels"] == {
        "app.kubernetes.io/name": "shift-engine",
        "app.kubernetes.io/managed-by": "shift-operator",
        "shiftparallel.io/deployment": "chat",
    }


def test_what_the_api_server_would_drop_is_not_written(a_deployment: Build) -> None:
    spec = pod_spec(a_deployment(scheduling={"tolerations": [], "affinity": {}}))
    assert not {"nodeSelector", "tolerations", "affinity", "priorityClassName", "imagePullSecrets"} & spec.keys()


def test_replicas_spread_among_themselves_unless_told_otherwise(a_deployment: Build) -> None:
    constraint = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    (spread,) = pod_spec(a_deployment(scheduling={"topologySpreadConstraints": [constraint]}))[
        "topologySpreadConstraints"
    ]
    assert spread == constraint | {
        "labelSelector": {
            "matchLabels": {"app.kubernetes.io/name": "shift-engine", "shiftparallel.io/deployment": "chat"}
        }
    }


@pytest.mark.parametrize(
    ("model", "args", "mounts"),
    [
        ({"uri": "file:///models/tiny"}, ["/models/tiny"], []),
        ({"uri": "pvc://models"}, ["/mnt/model"], [("model", "/mnt/model")]),
        ({"uri": "pvc://models/llama/8b"}, ["/mnt/model/llama/8b"], [("model", "/mnt/model")]),
        ({"uri": "hf://org/name"}, ["org/name"], [("huggingface", "/mnt/huggingface")]),
        ({"uri": "s3://models/llama/8b"}, ["s3://models/llama/8b"], []),
    ],
)
def test_a_models_uri(
    a_deployment: Build, model: dict[str, str], args: list[str], mounts: list[tuple[str, str]]
) -> None:
    engine = container(a_deployment(model=model))
    assert engine["args"][1:2] == args
    own = [(m["name"], m["mountPath"]) for m in engine["volumeMounts"] if m["name"] not in ("schedule", "shm")]
    assert own == mounts


def test_a_model_in_object_storage(a_deployment: Build) -> None:
    access = {
        "endpointURL": "https://minio.storage:9000",
        "addressing": "Path",
        "region": "eu-central-1",
        "credentialsSecretName": "reader",
    }
    deployment = a_deployment(model={"uri": "s3://models/llama/8b", "s3": access})
    assert container(deployment)["args"][-2:] == ["--load-format", "runai_streamer"]
    ours = {name: value for name, value in variables(deployment).items() if name in S3_VARIABLES}
    assert ours == {
        "AWS_ENDPOINT_URL": "https://minio.storage:9000",
        "RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING": "0",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": {"secretKeyRef": {"name": "reader", "key": "AWS_ACCESS_KEY_ID"}},
        "AWS_SECRET_ACCESS_KEY": {"secretKeyRef": {"name": "reader", "key": "AWS_SECRET_ACCESS_KEY"}},
    }
    assert ours.keys() == set(S3_VARIABLES)


def test_amazons_own_storage_with_the_pods_identity_needs_no_variables(a_deployment: Build) -> None:
    assert not set(S3_VARIABLES) & variables(a_deployment(model={"uri": "s3://models/llama"})).keys()


def test_a_gated_model_with_a_cache(a_deployment: Build) -> None:
    model = {
        "uri": "hf://org/name",
        "name": "served",
        "revision": "abc",
        "tokenSecretRef": {"name": "hf", "key": "token"},
        "cache": {"claimName": "models", "subPath": "hub"},
    }
    deployment = a_deployment(model=model)
    engine, spec = container(deployment), pod_spec(deployment)
    assert engine["args"][-2:] == ["--revision", "abc"]
    assert "served" in engine["args"]
    assert variables(deployment)["HF_HOME"] == "/mnt/huggingface"
    assert variables(deployment)["HF_TOKEN"] == {"secretKeyRef": {"name": "hf", "key": "token"}}
    assert {"name": "huggingface", "mountPath": "/mnt/huggingface", "subPath": "hub"} in engine["volumeMounts"]
    assert {"name": "huggingface", "persistentVolumeClaim": {"claimName": "models"}} in spec["volumes"]
    assert spec["securityContext"]["fsGroup"] == 1000
