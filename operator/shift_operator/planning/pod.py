"""A replica's pod: one container with the shift engine and all of the replica's GPUs (docs/contract.md, section 1).

The template must be stable: whatever changes in it restarts every replica of every ShiftDeployment. So nothing live is
in it (no threshold, no schedule, no operator version), and tests/unit/planning/test_pod_template_is_stable.py keeps the
hash of whole templates: an operator upgrade must not change them.
"""

from typing import Any

from shift_operator.api import labels
from shift_operator.api.engine import EnvironmentVariable
from shift_operator.api.scheduling import Scheduling, TopologySpreadConstraint
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.drain import grace_period_seconds, pre_stop, shutdown_timeout_seconds
from shift_operator.planning.model_source import ModelSource, model_source
from shift_operator.planning.names import schedule_name, workload_name

SCHEDULE_MOUNT = "/etc/shift"
TERMINATION_LOG = "/dev/termination-log"

# Loading and calibrating a large model takes minutes, downloading it much longer: the start-up probe has an hour, and
# Progressing says so earlier. Later a busy engine may answer late, so that liveness gives up only after a minute.
STARTUP_PROBE = {"periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 1800}
READINESS_PROBE = {"periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 2}
LIVENESS_PROBE = {"periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 6}

# The group that owns a fresh cache claim, so that an engine that is not root can write to it.
CACHE_GROUP = 1000

Part = dict[str, Any]


def pod_template(deployment: ShiftDeployment) -> Part:
    """The pod template of the deployment's replicas."""
    return {
        "metadata": {"labels": labels.child_labels(deployment.name)},
        "spec": pod_spec(deployment),
    }


def pod_spec(deployment: ShiftDeployment) -> Part:
    """The spec of a replica's pod."""
    spec, source = deployment.spec, model_source(deployment.spec.model)
    security: Part = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if spec.model.cache is not None:
        security |= {"fsGroup": CACHE_GROUP, "fsGroupChangePolicy": "OnRootMismatch"}
    return _without_empty(
        {
            "serviceAccountName": workload_name(deployment.name),
            "automountServiceAccountToken": False,
            # A Service named `vllm` would set VLLM_PORT to a URL in every pod of the namespace, which vLLM then reads.
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": grace_period_seconds(spec.drain),
            "imagePullSecrets": [{"name": secret.name} for secret in spec.engine.image_pull_secrets],
            "securityContext": security,
            "containers": [_container(deployment, source)],
            "volumes": [
                {"name": "schedule", "configMap": {"name": schedule_name(deployment.name)}},
                # NCCL and vLLM's workers talk through shared memory; a container's own has 64 MiB.
                {"name": "shm", "emptyDir": {"medium": "Memory"}},
                *source.volumes,
            ],
            **_scheduling(deployment.name, spec.scheduling),
        }
    )


def _container(deployment: ShiftDeployment, source: ModelSource) -> Part:
    spec = deployment.spec
    gpus = str(spec.parallelism.gpus_per_replica)
    return {
        "name": labels.ENGINE_CONTAINER,
        "image": spec.engine.image,
        "args": _args(deployment, source),
        "env": [
            _from_field("POD_IP", "status.podIP"),
            _from_field("POD_NAME", "metadata.name"),
            _from_field("POD_NAMESPACE", "metadata.namespace"),
            {"name": "SHIFT_TERMINATION_LOG", "value": TERMINATION_LOG},
            *source.env,
            *map(_variable, spec.engine.env),
        ],
        "ports": [{"name": labels.HTTP_PORT_NAME, "containerPort": labels.HTTP_PORT, "protocol": "TCP"}],
        # Requests follow from limits; both are written so that no admission plug-in has to.
        "resources": {
            "limits": {spec.scheduling.resource_name: gpus},
            "requests": {spec.scheduling.resource_name: gpus},
        },
        "startupProbe": _health(STARTUP_PROBE),
        "readinessProbe": _health(READINESS_PROBE),
        "livenessProbe": _health(LIVENESS_PROBE),
        "lifecycle": {"preStop": pre_stop()},
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            # The directory, never one file by subPath: a kubelet does not refresh those.
            {"name": "schedule", "mountPath": SCHEDULE_MOUNT, "readOnly": True},
            {"name": "shm", "mountPath": "/dev/shm"},
            *source.mounts,
        ],
    }


def _args(deployment: ShiftDeployment, source: ModelSource) -> list[str]:
    """The engine's arguments in a fixed order, the user's last."""
    spec = deployment.spec
    return [
        "serve", source.name_or_path,
        "--served-model-name", spec.model.name or deployment.name,
        "--host", "$(POD_IP)",
        "--port", str(labels.HTTP_PORT),
        "--tensor-parallel-size", str(spec.parallelism.gpus_per_replica),
        "--shift-degree", str(spec.parallelism.degree),
        "--shift-schedule-file", f"{SCHEDULE_MOUNT}/schedule.json",
        "--shutdown-timeout", str(shutdown_timeout_seconds(spec.drain)),
        *source.args,
        *spec.engine.args,
    ]  # fmt: skip


def _health(patience: Part) -> Part:
    return {"httpGet": {"path": "/health", "port": labels.HTTP_PORT_NAME, "scheme": "HTTP"}, **patience}


def _from_field(name: str, path: str) -> Part:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def _variable(variable: EnvironmentVariable) -> Part:
    body = variable.to_body()
    if "fieldRef" in body.get("valueFrom", {}):
        return _from_field(variable.name, body["valueFrom"]["fieldRef"]["fieldPath"])
    if body.get("value") == "":
        del body["value"]  # the API server drops it, so we must not claim to own it
    return body


def _scheduling(name: str, scheduling: Scheduling) -> Part:
    spread = [_spread(name, constraint) for constraint in scheduling.topology_spread_constraints]
    return {
        "nodeSelector": dict(scheduling.node_selector),
        "tolerations": [_as_stored(toleration.to_body()) for toleration in scheduling.tolerations],
        "affinity": _as_stored(scheduling.affinity.to_body()) if scheduling.affinity else {},
        "topologySpreadConstraints": _as_stored(spread),
        "priorityClassName": scheduling.priority_class_name or "",
    }


def _spread(name: str, constraint: TopologySpreadConstraint) -> Part:
    body = constraint.to_body()
    body.setdefault("labelSelector", {"matchLabels": labels.selector_labels(name)})
    return body


def _as_stored(value: Any) -> Any:
    """A user's part as the API server keeps it: no empty list or word; an empty selector stays: it is everything."""
    if isinstance(value, list):
        return [_as_stored(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: item for key, item in value.items() if item not in ([], "") and (key, item) != ("matchLabels", {})}
    return {key: item if key == "matchLabels" else _as_stored(item) for key, item in kept.items()}


def _without_empty(part: Part) -> Part:
    """The part without empty values, which the API server drops: what we own must be what is there."""
    return {key: value for key, value in part.items() if value not in ({}, [], "")}
