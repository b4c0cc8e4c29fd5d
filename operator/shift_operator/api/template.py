"""What a user may add to the replicas' pods beyond the other fields: sidecars, volumes, labels.

The list is closed. What the operator owns (the engine's image, arguments and ports, probes, grace period, labels that
select the pods) is either not here at all, so the API server refuses it as an unknown field, or refused by a rule that
says which field to write instead.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from shift_operator.api import labels
from shift_operator.api.base import (
    GROUP,
    ApiType,
    DnsLabel,
    LabelValue,
    MapKey,
    ObjectName,
    Rule,
    folder_within,
    keyed_by,
    label_keys_rule,
    with_rules,
)
from shift_operator.api.engine import EnvironmentSource, MemoryQuantity, Resources

OWNED_LABELS = (labels.NAME, labels.MANAGED_BY, labels.QUEUE, "pod-template-hash")
OWNED_ANNOTATIONS = ("controller.kubernetes.io/pod-deletion-cost",)
OWNED_VOLUMES = ("schedule", "shm", "model", "huggingface")
OWNED_MOUNTS = ("/etc/shift", "/dev/shm", "/mnt/model", "/mnt/huggingface")

_ATOMIC = {"x-kubernetes-list-type": "atomic"}


def _quoted(words: tuple[str, ...]) -> str:
    return "[" + ", ".join(map(repr, words)) + "]"


def _owned_keys_rule(kind: str, owned: tuple[str, ...]) -> Rule:
    return Rule(
        rule=f"!self.exists(k, k in {_quoted(owned)} || k.startsWith('{GROUP}/'))",
        message=f"template.metadata.{kind}: {', '.join(owned)} and {GROUP}/* are set by the operator; remove them",
    )


class TemplateMetadata(ApiType):
    """Labels and annotations of the pods, beside the operator's."""

    labels: Annotated[
        dict[MapKey, LabelValue],
        Field(
            max_length=32,
            json_schema_extra=with_rules(
                _owned_keys_rule("labels", OWNED_LABELS), label_keys_rule("template.metadata.labels")
            ),
        ),
    ] = Field(default={})
    """Further labels. Default: none. Takes effect with a rollout. Example: team: search for a cost report. Those that
    select the pods are refused."""

    annotations: Annotated[
        dict[MapKey, Annotated[str, Field(max_length=4096)]],
        Field(
            max_length=32,
            json_schema_extra=with_rules(
                _owned_keys_rule("annotations", OWNED_ANNOTATIONS), label_keys_rule("template.metadata.annotations")
            ),
        ),
    ] = Field(default={})
    """Further annotations. Default: none. Takes effect with a rollout. Example: sidecar.istio.io/inject: "false"."""


class VolumeMount(ApiType):
    """A volume in a container's file system."""

    name: DnsLabel
    """The volume's name: of template.spec.volumes, or one of the operator's (schedule, shm, model, huggingface)."""

    mount_path: Annotated[
        str,
        Field(
            min_length=2,
            max_length=512,
            json_schema_extra=with_rules(
                Rule(
                    rule="self.startsWith('/') && !self.endsWith('/') && !self.contains('//') && !self.contains(':')"
                    " && !self.split('/').exists(p, p == '..' || p == '.')",
                    message="template.spec: mountPath must be an absolute path in its shortest form, without ':'; "
                    "write for example /var/cache",
                )
            ),
        ),
    ]
    """Where it is mounted, an absolute path."""

    sub_path: Annotated[str | None, folder_within(named="template.spec: subPath")] = None
    """The folder within the volume. Default: its root."""

    read_only: bool | None = None
    """Whether it is mounted read-only. Default: no."""


class Port(ApiType):
    """A port of a further container."""

    name: Annotated[str | None, Field(min_length=1, max_length=15, pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")] = None
    """Its name. Default: none. `http` is the engine's."""

    container_port: Annotated[int, Field(ge=1, le=65_535)]
    """Its number. Unit: a TCP port. 8000 is the engine's."""


class Variable(ApiType):
    """An environment variable of a further container."""

    model_config = ConfigDict(
        json_schema_extra=with_rules(
            Rule(
                rule="!(has(self.value) && has(self.valueFrom))",
                message="template.spec: a variable has either value or valueFrom; remove one of them",
            )
        )
    )

    name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    """The variable's name."""

    value: Annotated[str | None, Field(max_length=4096)] = None
    """Its value."""

    value_from: EnvironmentSource | None = None
    """Where to take the value from when the pod starts."""


class ContainerResources(ApiType):
    """What a further container needs and may use."""

    requests: Resources = Resources()
    """What the scheduler sets aside. Default: none."""

    limits: Resources = Resources()
    """What it may use at most. Default: no limit."""


class ContainerSecurity(ApiType):
    """As whom a container runs. Root, privileges and capabilities are not to be had."""

    run_as_user: Annotated[int | None, Field(ge=1, le=2_147_483_647)] = None
    """The user's number. Unit: a user ID. Default: the image's, which must not be root."""

    run_as_group: Annotated[int | None, Field(ge=0, le=2_147_483_647)] = None
    """The group's number. Unit: a group ID. Default: the image's."""

    read_only_root_filesystem: bool | None = None
    """Whether the container's own files are read-only. Default: no."""


Word = Annotated[str, Field(max_length=4096)]
Image = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[a-z0-9][A-Za-z0-9._:/@-]*$")]
Words = Annotated[tuple[Word, ...], Field(max_length=64, json_schema_extra=dict(_ATOMIC))]
Variables = Annotated[tuple[Variable, ...], Field(max_length=32, json_schema_extra=keyed_by("name"))]
Ports = Annotated[tuple[Port, ...], Field(max_length=8, json_schema_extra=keyed_by("containerPort"))]
Mounts = Annotated[tuple[VolumeMount, ...], Field(max_length=16, json_schema_extra=keyed_by("mountPath"))]


class RestartPolicy(StrEnum):
    ALWAYS = "Always"


class Container(ApiType):
    """A container beside the engine, or what is added to the engine's own."""

    name: DnsLabel
    """Its name. `engine` is the engine's container, to which volumeMounts and securityContext are added."""

    image: Image | None = None
    """Its image. Needed in every container but the engine's."""

    command: Words = ()
    """Its command. Default: the image's."""

    args: Words = ()
    """The command's arguments. Default: the image's."""

    env: Variables = ()
    """Its environment variables. Default: none."""

    ports: Ports = ()
    """Its ports. Default: none."""

    resources: ContainerResources = ContainerResources()
    """What it needs of the node."""

    volume_mounts: Mounts = ()
    """Volumes in its file system. Default: none."""

    security_context: ContainerSecurity = ContainerSecurity()
    """As whom it runs."""


class InitContainer(Container):
    """A container that ends before the engine starts, or with restartPolicy Always runs beside it from before."""

    restart_policy: RestartPolicy | None = None
    """Always keeps it running beside the engine. Default: it ends before the engine starts."""


class ConfigMapSource(ApiType):
    """A ConfigMap's files."""

    name: ObjectName
    """The ConfigMap's name."""

    optional: bool | None = None
    """Whether the pod may start without it. Default: no."""


class SecretSource(ApiType):
    """A Secret's files."""

    secret_name: ObjectName
    """The Secret's name."""

    optional: bool | None = None
    """Whether the pod may start without it. Default: no."""


class Medium(StrEnum):
    MEMORY = "Memory"


class EmptyDir(ApiType):
    """A folder that lives as long as the pod."""

    medium: Medium | None = None
    """Memory keeps it in memory. Default: the node's disk."""

    size_limit: MemoryQuantity | None = None
    """Its largest size. Unit: Mi or Gi, powers of two. Default: none."""


class ClaimSource(ApiType):
    """A PersistentVolumeClaim."""

    claim_name: ObjectName
    """The claim's name."""

    read_only: bool | None = None
    """Whether it is mounted read-only. Default: no."""


class Volume(ApiType):
    """A volume of the pod: exactly one source."""

    model_config = ConfigDict(
        json_schema_extra=with_rules(
            Rule(
                rule="[has(self.configMap), has(self.secret), has(self.emptyDir), has(self.persistentVolumeClaim)]"
                ".filter(x, x).size() == 1",
                message="template.spec.volumes: a volume needs exactly one of configMap, secret, emptyDir and "
                "persistentVolumeClaim",
            ),
            Rule(
                rule=f"!(self.name in {_quoted(OWNED_VOLUMES)})",
                message=f"template.spec.volumes: {', '.join(OWNED_VOLUMES)} are the operator's; give yours another "
                "name, and use model.uri and model.cache for the model's",
                field=".name",
            ),
        )
    )

    name: DnsLabel
    """Its name, for volumeMounts."""

    config_map: ConfigMapSource | None = None
    """A ConfigMap's files."""

    secret: SecretSource | None = None
    """A Secret's files."""

    empty_dir: EmptyDir | None = None
    """A folder that lives as long as the pod."""

    persistent_volume_claim: ClaimSource | None = None
    """A PersistentVolumeClaim."""


class PodSecurity(ApiType):
    """Groups of the whole pod."""

    fs_group: Annotated[int | None, Field(ge=0, le=2_147_483_647)] = None
    """The group that owns the volumes. Unit: a group ID. Default: 1000 with model.cache, else none."""

    supplemental_groups: Annotated[
        tuple[Annotated[int, Field(ge=0, le=2_147_483_647)], ...],
        Field(max_length=16, json_schema_extra=dict(_ATOMIC)),
    ] = ()
    """Further groups of every container's user. Unit: group IDs. Default: none. Example: the group that may use the
    node's InfiniBand devices."""


_OWN_FIELDS = ("image", "command", "args", "env", "ports")


class PodSpec(ApiType):
    """What is added to the pods' spec. Lists are merged as `kubectl` does: containers and volumes by name."""

    model_config = ConfigDict(
        json_schema_extra=with_rules(
            Rule(
                rule="!has(self.containers) || !self.containers.exists(c, c.name == 'engine' && ("
                + " || ".join(f"has(c.{field})" for field in _OWN_FIELDS)
                + " || (has(c.resources) && ((has(c.resources.requests) && (has(c.resources.requests.cpu) ||"
                " has(c.resources.requests.memory))) || (has(c.resources.limits) && (has(c.resources.limits.cpu) ||"
                " has(c.resources.limits.memory)))))))",
                message="template.spec.containers: of the container engine only volumeMounts and securityContext can "
                "be set here; its image, args, env and resources are in engine, its command and ports are the "
                "operator's",
                field=".containers",
            ),
            Rule(
                rule="!has(self.containers) || self.containers.all(c, c.name == 'engine' || has(c.image))",
                message="template.spec.containers: a container needs an image; to add to the engine's container, "
                "write name: engine",
                field=".containers",
            ),
            Rule(
                rule="!has(self.initContainers) || self.initContainers.all(c, c.name != 'engine' && has(c.image) &&"
                " (!has(self.containers) || !self.containers.exists(d, d.name == c.name)))",
                message="template.spec.initContainers: a container needs an image and a name that no other has, nor "
                "engine",
                field=".initContainers",
            ),
            Rule(
                rule="!has(self.containers) || !self.containers.exists(c, c.name == 'engine' && has(c.volumeMounts) &&"
                f" c.volumeMounts.exists(m, {_quoted(OWNED_MOUNTS)}.exists(p, p == m.mountPath ||"
                " p.startsWith(m.mountPath + '/') || m.mountPath.startsWith(p + '/'))))",
                message=f"template.spec.containers: {', '.join(OWNED_MOUNTS)} and what is above and below them in the "
                "engine's container are the operator's; mount it elsewhere",
                field=".containers",
            ),
            Rule(
                rule="!has(self.containers) || self.containers.all(c, !has(c.ports) ||"
                " c.ports.all(p, p.containerPort != 8000 && (!has(p.name) || p.name != 'http')))",
                message="template.spec.containers: port 8000 and the name http are the engine's; use another",
                field=".containers",
            ),
        )
    )

    containers: Annotated[tuple[Container, ...], Field(max_length=8, json_schema_extra=keyed_by("name"))] = ()
    """Containers beside the engine's, and additions to it. Default: none. Takes effect with a rollout. Example: a log
    shipper. They get no privileges and no capabilities."""

    init_containers: Annotated[tuple[InitContainer, ...], Field(max_length=8, json_schema_extra=keyed_by("name"))] = ()
    """Containers that run before the engine. Default: none. Takes effect with a rollout. Example: one that copies
    weights onto a local disk."""

    volumes: Annotated[tuple[Volume, ...], Field(max_length=16, json_schema_extra=keyed_by("name"))] = ()
    """Further volumes. Default: none. Takes effect with a rollout. Example: a ConfigMap with a chat template."""

    security_context: PodSecurity = PodSecurity()
    """Groups of the whole pod."""

    runtime_class_name: ObjectName | None = None
    """The pods' RuntimeClass. Default: the cluster's. Takes effect with a rollout. Example: nvidia where that is not
    the nodes' default."""

    scheduler_name: ObjectName | None = None
    """The scheduler that places the pods. Default: the cluster's. Takes effect with a rollout."""


class PodTemplate(ApiType):
    """Additions to the replicas' pods."""

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations beside the operator's."""

    spec: PodSpec = PodSpec()
    """Containers, volumes and what else may be added."""
