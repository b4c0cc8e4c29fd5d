"""What a user's template adds to the replicas' pods, in the API server's own form."""

from collections.abc import Mapping
from typing import Any

from shift_operator.api import labels
from shift_operator.api.template import Container, InitContainer, PodTemplate, Volume
from shift_operator.planning.environment import variables
from shift_operator.planning.quantity import memory, node_resources

Part = dict[str, Any]

# Of every container in a replica's pod.
UNPRIVILEGED: Part = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def additions(template: PodTemplate) -> Part:
    """The template as a strategic merge patch for the pod template; empty where the user wrote none."""
    spec = template.spec
    return _without_empty(
        {
            "metadata": _without_empty(
                {"labels": dict(template.metadata.labels), "annotations": dict(template.metadata.annotations)}
            ),
            "spec": _without_empty(
                {
                    "containers": [_container(container) for container in spec.containers],
                    "initContainers": [_container(container) for container in spec.init_containers],
                    "volumes": [_volume(volume) for volume in spec.volumes],
                    "securityContext": _without_empty(spec.security_context.to_body()),
                    "runtimeClassName": spec.runtime_class_name or "",
                    "schedulerName": spec.scheduler_name or "",
                }
            ),
        }
    )


def _container(container: Container) -> Part:
    mounts = [_without_false(mount.to_body()) for mount in container.volume_mounts]
    security = container.security_context.to_body()
    if container.name == labels.ENGINE_CONTAINER:
        return _without_empty({"name": container.name, "volumeMounts": mounts, "securityContext": security})
    resources = container.resources
    part = _without_empty(
        {
            "name": container.name,
            "image": container.image or "",
            "command": list(container.command),
            "args": list(container.args),
            "env": variables(container.env),
            "ports": [port.to_body() | {"protocol": "TCP"} for port in container.ports],
            "resources": _without_empty(
                {"requests": node_resources(resources.requests), "limits": node_resources(resources.limits)}
            ),
            "volumeMounts": mounts,
            "securityContext": UNPRIVILEGED | security,
        }
    )
    if isinstance(container, InitContainer) and container.restart_policy is not None:
        part["restartPolicy"] = container.restart_policy.value
    return part


def _volume(volume: Volume) -> Part:
    body = volume.to_body()
    if volume.empty_dir is not None and volume.empty_dir.size_limit is not None:
        body["emptyDir"]["sizeLimit"] = memory(volume.empty_dir.size_limit)
    if volume.persistent_volume_claim is not None:
        body["persistentVolumeClaim"] = _without_false(body["persistentVolumeClaim"])
    return body


def _without_empty(part: Mapping[str, Any]) -> Part:
    """The part without empty values, which the API server drops: what we own must be what is there."""
    return {key: value for key, value in part.items() if value not in ({}, [], "")}


def _without_false(part: Mapping[str, Any]) -> Part:
    """The part without readOnly: false, which the API server drops."""
    return {key: value for key, value in part.items() if value is not False}
