"""Where a replica's pod may run: Kubernetes' own fields with their own meaning, typed so that a typo is refused."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from shift_operator.api.affinity import Affinity, LabelSelector
from shift_operator.api.base import (
    ApiType,
    DnsLabel,
    LabelKey,
    LabelValue,
    MapKey,
    ObjectName,
    Rule,
    keyed_by,
    label_keys_rule,
    with_rules,
)


class TolerationOperator(StrEnum):
    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(ApiType):
    """Lets the pod onto nodes with a matching taint."""

    model_config = ConfigDict(
        json_schema_extra=with_rules(
            Rule(
                rule="has(self.key) || (has(self.operator) && self.operator == 'Exists')",
                message="scheduling.tolerations: a toleration without key tolerates everything; write operator: Exists "
                "if you mean that, else a key",
            ),
            Rule(
                rule="!(has(self.value) && has(self.operator) && self.operator == 'Exists')",
                message="scheduling.tolerations: operator Exists takes no value; remove value or write operator: Equal",
            ),
            Rule(
                rule="!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
                message="scheduling.tolerations: tolerationSeconds needs effect: NoExecute",
            ),
        )
    )

    key: LabelKey | None = None
    """The taint's key. Default: every key, which needs operator Exists."""

    operator: TolerationOperator | None = None
    """Equal compares value, Exists does not. Default: Equal."""

    value: LabelValue | None = None
    """The taint's value, for operator Equal."""

    effect: TaintEffect | None = None
    """The taint's effect. Default: every effect."""

    toleration_seconds: Annotated[int | None, Field(ge=0)] = None
    """How long the pod stays on a node that gets the taint. Unit: seconds. Default: for ever. Only with NoExecute."""


class WhenUnsatisfiable(StrEnum):
    DO_NOT_SCHEDULE = "DoNotSchedule"
    SCHEDULE_ANYWAY = "ScheduleAnyway"


class TopologySpreadConstraint(ApiType):
    """Spreads the replicas over nodes or zones."""

    max_skew: Annotated[int, Field(ge=1)]
    """How many more pods one topology domain may have than another. Unit: pods."""

    topology_key: LabelKey
    """The node label that names the domain, for example topology.kubernetes.io/zone."""

    when_unsatisfiable: WhenUnsatisfiable
    """Whether a pod that would break the constraint waits (DoNotSchedule) or starts anyway (ScheduleAnyway)."""

    label_selector: LabelSelector | None = None
    """Which pods are counted. Default: the replicas of this ShiftDeployment."""


class Scheduling(ApiType):
    """Where replicas may run."""

    resource_name: Annotated[
        str,
        Field(
            min_length=3,
            max_length=253,
            json_schema_extra=with_rules(
                Rule(
                    rule=r"self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$')",
                    message="scheduling.resourceName must be domain/resource, as the node's device plugin announces "
                    "it; write for example nvidia.com/gpu",
                )
            ),
        ),
    ] = "nvidia.com/gpu"
    """The extended resource that stands for one GPU. Default: {default}. Takes effect with a rollout. Example:
    amd.com/gpu; a name that no node announces leaves the pods Pending."""

    node_selector: Annotated[
        dict[MapKey, LabelValue],
        Field(
            max_length=32,
            json_schema_extra={
                "x-kubernetes-map-type": "atomic",
                **with_rules(label_keys_rule("scheduling.nodeSelector")),
            },
        ),
    ] = Field(default={})
    """Labels that a node must have. Default: none. Takes effect with a rollout. Example: nvidia.com/gpu.product:
    NVIDIA-H100-80GB-HBM3 keeps step times comparable over the replicas."""

    tolerations: Annotated[
        tuple[Toleration, ...], Field(max_length=32, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = ()
    """Taints that the pods tolerate. Default: none. Takes effect with a rollout."""

    affinity: Affinity | None = None
    """Affinity to nodes and other pods. Default: none. Takes effect with a rollout."""

    topology_spread_constraints: Annotated[
        tuple[TopologySpreadConstraint, ...],
        Field(max_length=8, json_schema_extra=keyed_by("topologyKey", "whenUnsatisfiable")),
    ] = ()
    """How the replicas spread over topology domains. Default: as the scheduler likes. Takes effect with a rollout."""

    priority_class_name: ObjectName | None = None
    """The pods' PriorityClass. Default: the cluster's. Takes effect with a rollout. Example: with a high priority a
    replica evicts batch jobs from its GPUs."""

    queue_name: DnsLabel | None = None
    """The Kueue LocalQueue of the namespace that the replicas wait in. Default: none. Takes effect with a rollout. The
    Deployment and its pods get the label kueue.x-k8s.io/queue-name. Example: team-a holds replicas back while the
    team's quota of GPUs is used up; without Kueue in the cluster it changes nothing."""
