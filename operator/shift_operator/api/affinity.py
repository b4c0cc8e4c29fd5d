"""Kubernetes' affinity and label selectors, with their own meaning (core/v1 Affinity)."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from shift_operator.api.base import ApiType, DnsLabel, LabelKey, LabelValue, MapKey, Rule, label_keys_rule, with_rules

_ATOMIC = {"x-kubernetes-list-type": "atomic"}


class SelectorOperator(StrEnum):
    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class NodeSelectorOperator(StrEnum):
    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GREATER_THAN = "Gt"
    LESS_THAN = "Lt"


def _values_rule(where: str) -> Rule:
    return Rule(
        rule="self.operator in ['Exists', 'DoesNotExist'] ? !has(self.values) || self.values.size() == 0"
        " : has(self.values) && self.values.size() > 0",
        message=f"{where}: operators In, NotIn, Gt and Lt need values, Exists and DoesNotExist take none",
    )


Values = Annotated[tuple[LabelValue, ...] | None, Field(max_length=32, json_schema_extra=dict(_ATOMIC))]


class LabelRequirement(ApiType):
    """A requirement on an object's labels."""

    model_config = ConfigDict(json_schema_extra=with_rules(_values_rule("matchExpressions")))

    key: LabelKey
    """The label's key."""

    operator: SelectorOperator
    """How values are compared."""

    values: Values = None
    """The values, for In and NotIn."""


class LabelSelector(ApiType):
    """Selects objects by their labels; all parts must hold."""

    match_labels: Annotated[
        dict[MapKey, LabelValue] | None,
        Field(max_length=32, json_schema_extra=with_rules(label_keys_rule("matchLabels"))),
    ] = None
    """Labels with exactly these values."""

    match_expressions: Annotated[
        tuple[LabelRequirement, ...] | None, Field(max_length=16, json_schema_extra=dict(_ATOMIC))
    ] = None
    """Further requirements."""


class NodeRequirement(ApiType):
    """A requirement on a node's labels or fields."""

    model_config = ConfigDict(json_schema_extra=with_rules(_values_rule("nodeAffinity")))

    key: LabelKey
    """The label's key."""

    operator: NodeSelectorOperator
    """How values are compared."""

    values: Values = None
    """The values, for In, NotIn, Gt and Lt."""


class NodeSelectorTerm(ApiType):
    """Requirements that must all hold."""

    match_expressions: Annotated[
        tuple[NodeRequirement, ...] | None, Field(max_length=16, json_schema_extra=dict(_ATOMIC))
    ] = None
    """Requirements on the node's labels."""

    match_fields: Annotated[
        tuple[NodeRequirement, ...] | None, Field(max_length=4, json_schema_extra=dict(_ATOMIC))
    ] = None
    """Requirements on the node's fields (metadata.name)."""


class NodeSelector(ApiType):
    """Terms of which one must hold."""

    node_selector_terms: Annotated[
        tuple[NodeSelectorTerm, ...], Field(min_length=1, max_length=8, json_schema_extra=dict(_ATOMIC))
    ]
    """The terms."""


Weight = Annotated[int, Field(ge=1, le=100)]


class PreferredNodeTerm(ApiType):
    """A term that attracts."""

    weight: Weight
    """How much, from 1 to 100."""

    preference: NodeSelectorTerm
    """The term."""


class NodeAffinity(ApiType):
    """Which nodes the pods need or prefer."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    """What a node must have when a pod is placed."""

    preferred_during_scheduling_ignored_during_execution: Annotated[
        tuple[PreferredNodeTerm, ...] | None, Field(max_length=8, json_schema_extra=dict(_ATOMIC))
    ] = None
    """What is preferred."""


class PodAffinityTerm(ApiType):
    """Pods that run in the same topology domain."""

    topology_key: LabelKey
    """The node label that names the domain, for example kubernetes.io/hostname."""

    label_selector: LabelSelector | None = None
    """Which pods."""

    namespaces: Annotated[tuple[DnsLabel, ...] | None, Field(max_length=16, json_schema_extra=dict(_ATOMIC))] = None
    """The pods' namespaces. Default: the ShiftDeployment's."""

    namespace_selector: LabelSelector | None = None
    """The pods' namespaces by label."""


class PreferredPodTerm(ApiType):
    """A term that attracts, or repels in podAntiAffinity."""

    weight: Weight
    """How much, from 1 to 100."""

    pod_affinity_term: PodAffinityTerm
    """The term."""


class PodAffinity(ApiType):
    """Pods to be near to, or away from."""

    required_during_scheduling_ignored_during_execution: Annotated[
        tuple[PodAffinityTerm, ...] | None, Field(max_length=8, json_schema_extra=dict(_ATOMIC))
    ] = None
    """What must hold when a pod is placed."""

    preferred_during_scheduling_ignored_during_execution: Annotated[
        tuple[PreferredPodTerm, ...] | None, Field(max_length=8, json_schema_extra=dict(_ATOMIC))
    ] = None
    """What is preferred."""


class Affinity(ApiType):
    """Kubernetes' affinity."""

    node_affinity: NodeAffinity | None = None
    """Nodes that the pods need or prefer."""

    pod_affinity: PodAffinity | None = None
    """Pods that the replicas are placed near to."""

    pod_anti_affinity: PodAffinity | None = None
    """Pods that the replicas are kept away from."""
