"""Who may reach the replicas over the network."""

from typing import Annotated

from pydantic import ConfigDict, Field

from shift_operator.api.affinity import LabelSelector
from shift_operator.api.base import ApiType, Rule, with_rules


class NetworkPeer(ApiType):
    """Pods that may reach the replicas; with both selectors, pods that match both."""

    model_config = ConfigDict(
        json_schema_extra=with_rules(
            Rule(
                rule="has(self.namespaceSelector) || has(self.podSelector)",
                message="networkPolicy.allowFrom: a peer needs namespaceSelector or podSelector; write podSelector: {} "
                "for every pod of the namespace, namespaceSelector: {} for every pod of the cluster",
            )
        )
    )

    namespace_selector: LabelSelector | None = None
    """The pods' namespaces by label. Default: the ShiftDeployment's. Example: the label
    kubernetes.io/metadata.name, which Kubernetes itself gives each namespace, with the value monitoring."""

    pod_selector: LabelSelector | None = None
    """The pods by label. Default: every pod of these namespaces."""


class NetworkPolicy(ApiType):
    """Who may reach the replicas over the network, in clusters whose network plug-in enforces NetworkPolicies. It is
    about incoming connections; a replica itself may reach what it could before."""

    enabled: bool = False
    """Whether the replicas get a NetworkPolicy. Default: {default}, everyone who can route to a pod may ask it. Takes
    effect live; false removes it again. Example: true in a cluster of several teams, since an engine asks nobody for
    credentials."""

    allow_from: Annotated[
        tuple[NetworkPeer, ...], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = ()
    """Who may reach port 8000, where clients and Prometheus ask. Default: every pod of the ShiftDeployment's own
    namespace. Takes effect live. Pods labelled app.kubernetes.io/name: shift-operator may always, in any namespace: the
    operator asks the engines itself. Example: a gateway's namespace and Prometheus's; without the latter the metrics
    stay away, and MetricsAvailable turns False."""
