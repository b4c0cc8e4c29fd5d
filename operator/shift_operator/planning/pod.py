"""A replica's pod: one container with the shift engine and all of the replica's GPUs (docs/contract.md, section 1).

Of a replica over several nodes each pod has an equal part of the GPUs. The first one serves; in the others the engine
only runs ranks for it.

The template must be stable: whatever changes in it restarts every replica of every ShiftDeployment. So nothing live is
in it (no threshold, no schedule, no operator version), and tests/unit/planning/test_pod_template_is_stable.py keeps the
hash of whole templates: an operator upgrade must not change them.
"""

from dataclasses import dataclass
from typing import Any

from shift_operator.api import labels
from shift_operator.api.scheduling import Scheduling, TopologySpreadConstraint
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.degree import degree_flags
from shift_operator.planning.drain import grace_period_seconds, pre_stop, shutdown_timeout_seconds
from shift_operator.planning.environment import from_field, variables
from shift_operator.planning.model_source import ModelSource, model_source
from shift_operator.planning.names import schedule_name, workload_name
from shift_operator.planning.overrides import merged
from shift_operator.planning.pod_additions import UNPRIVILEGED, additions
from shift_operator.planning.quantity import node_resources
from shift_operator.planning.stored import as_stored

SCHEDULE_MOUNT = "/etc/shift"
TERMINATION_LOG = "/dev/termination-log"

# Loading and calibrating a large model takes minutes, downloading it much longer: the start-up probe has an hour, and
# Progressing says so earlier. Later a busy engine may answer late, so that liveness gives up only after a minute.
STARTUP_PROBE = {"periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 1800}
READINESS_PROBE = {"periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 2}
LIVENESS_PROBE = {"periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 6}

HOST_IP = "VLLM_HOST_IP"

# The group that owns a fresh cache claim, so that an engine that is not root can write to it.
CACHE_GROUP = 1000

Part = dict[str, Any]


@dataclass(frozen=True)
class Role:
    """A pod's part in its replica, which has `nodes` pods: whether it `serves`, or runs ranks for the one that does."""

    nodes: int = 1
    serves: bool = True


ALONE = Role()


def pod_template(deployment: ShiftDeployment, role: Role = ALONE) -> Part:
    """The template of the replicas' pods in this role, with what the user's own template adds."""
    own = labels.child_labels(deployment.name) if role.serves else labels.worker_labels(deployment.name)
    template = {
        "metadata": {"labels": own | queue_labels(deployment.spec.scheduling)},
        "spec": pod_spec(deployment, role),
    }
    return merged(template, additions(deployment.spec.template))


def queue_labels(scheduling: Scheduling) -> dict[str, str]:
    """How Kueue learns the queue: from the Deployment, and from each pod."""
    return {} if scheduling.queue_name is None else {labels.QUEUE: scheduling.queue_name}


def pod_spec(deployment: ShiftDeployment, role: Role = ALONE) -> Part:
    """The spec of a replica's pod, without the user's own template."""
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
            "containers": [_container(deployment, source, role)],
            "volumes": [
                {"name": "schedule", "configMap": {"name": schedule_name(deployment.name)}},
                # NCCL and vLLM's workers talk through shared memory; a container's own has 64 MiB.
                {"name": "shm", "emptyDir": {"medium": "Memory"}},
                *source.volumes,
            ],
            **_scheduling(deployment.name, spec.scheduling),
        }
    )


def _container(deployment: ShiftDeployment, source: ModelSource, role: Role) -> Part:
    spec = deployment.spec
    gpus = str(spec.parallelism.gpus_per_replica // role.nodes)
    return {
        "name": labels.ENGINE_CONTAINER,
        "image": spec.engine.image,
        "args": _args(deployment, source, role),
        "env": [
            from_field("POD_IP", "status.podIP"),
            from_field("POD_NAME", "metadata.name"),
            from_field("POD_NAMESPACE", "metadata.namespace"),
            {"name": "SHIFT_TERMINATION_LOG", "value": TERMINATION_LOG},
            *_node_variables(deployment, role),
            *source.env,
            *variables(spec.engine.env),
        ],
        **(_serving() if role.serves else {}),
        # Requests follow from limits; both are written so that no admission plug-in has to.
        "resources": {
            "limits": {spec.scheduling.resource_name: gpus},
            "requests": {spec.scheduling.resource_name: gpus, **node_resources(spec.engine.resources)},
        },
        "lifecycle": {"preStop": pre_stop()},
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": dict(UNPRIVILEGED),
        "volumeMounts": [
            # The directory, never one file by subPath: a kubelet does not refresh those.
            {"name": "schedule", "mountPath": SCHEDULE_MOUNT, "readOnly": True},
            {"name": "shm", "mountPath": "/dev/shm"},
            *source.mounts,
        ],
    }


def _serving() -> Part:
    """What only a container with an API server has."""
    return {
        "ports": [{"name": labels.HTTP_PORT_NAME, "containerPort": labels.HTTP_PORT, "protocol": "TCP"}],
        "startupProbe": _health(STARTUP_PROBE),
        "readinessProbe": _health(READINESS_PROBE),
        "livenessProbe": _health(LIVENESS_PROBE),
    }


def _args(deployment: ShiftDeployment, source: ModelSource, role: Role) -> list[str]:
    """The engine's arguments in a fixed order, the user's last."""
    spec = deployment.spec
    return [
        "serve", source.name_or_path,
        "--served-model-name", spec.model.name or deployment.name,
        "--host", "$(POD_IP)",
        "--port", str(labels.HTTP_PORT),
        "--tensor-parallel-size", str(spec.parallelism.gpus_per_replica),
        *_node_flags(role),
        *degree_flags(spec),
        "--shift-schedule-file", f"{SCHEDULE_MOUNT}/schedule.json",
        "--shutdown-timeout", str(shutdown_timeout_seconds(spec.drain)),
        *source.args,
        *spec.engine.args,
    ]  # fmt: skip


def _node_flags(role: Role) -> list[str]:
    """How the ranks of several nodes find each other. LeaderWorkerSet sets the variables in each pod of a group."""
    if role.nodes == 1:
        return []
    leader = "$(POD_IP)" if role.serves else "$(LWS_LEADER_ADDRESS)"
    flags = ["--nnodes", str(role.nodes), "--node-rank", "$(LWS_WORKER_INDEX)", "--master-addr", leader]
    return flags if role.serves else [*flags, "--headless"]


def _node_variables(deployment: ShiftDeployment, role: Role) -> list[Part]:
    """The address at which ranks on other nodes reach this one's: the user's, where vLLM's guess needs help too."""
    theirs = any(variable.name == HOST_IP for variable in deployment.spec.engine.env)
    return [] if role.nodes == 1 or theirs else [from_field(HOST_IP, "status.podIP")]


def _health(patience: Part) -> Part:
    return {"httpGet": {"path": "/health", "port": labels.HTTP_PORT_NAME, "scheme": "HTTP"}, **patience}


def _scheduling(name: str, scheduling: Scheduling) -> Part:
    spread = [_spread(name, constraint) for constraint in scheduling.topology_spread_constraints]
    return {
        "nodeSelector": dict(scheduling.node_selector),
        "tolerations": [as_stored(toleration.to_body()) for toleration in scheduling.tolerations],
        "affinity": as_stored(scheduling.affinity.to_body()) if scheduling.affinity else {},
        "topologySpreadConstraints": as_stored(spread),
        "priorityClassName": scheduling.priority_class_name or "",
    }


def _spread(name: str, constraint: TopologySpreadConstraint) -> Part:
    body = constraint.to_body()
    body.setdefault("labelSelector", {"matchLabels": labels.selector_labels(name)})
    return body


def _without_empty(part: Part) -> Part:
    """The part without empty values, which the API server drops: what we own must be what is there."""
    return {key: value for key, value in part.items() if value not in ({}, [], "")}
