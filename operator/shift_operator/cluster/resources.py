"""The kinds we read and write, and where the API server serves them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True)
class Resource:
    """A kind as the API server serves it; `plural` and `group` together are RBAC's name for it."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of an object, or of a collection where `name` is None; without namespace, of all namespaces."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace is not None:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part is not None]
        return "/" + "/".join(quote(part, safe="") for part in parts)


SHIFT_DEPLOYMENTS = Resource("shiftparallel.io", "v1alpha1", "ShiftDeployment", "shiftdeployments")
POLICIES = Resource("shiftparallel.io", "v1alpha1", "ClusterShiftPolicy", "clustershiftpolicies", namespaced=False)
PROFILES = Resource("shiftparallel.io", "v1alpha1", "ShiftProfile", "shiftprofiles", namespaced=False)
DEPLOYMENTS = Resource("apps", "v1", "Deployment", "deployments")
LEADER_WORKER_SETS = Resource("leaderworkerset.x-k8s.io", "v1", "LeaderWorkerSet", "leaderworkersets")
REPLICA_SETS = Resource("apps", "v1", "ReplicaSet", "replicasets")
SERVICES = Resource("", "v1", "Service", "services")
CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps")
SERVICE_ACCOUNTS = Resource("", "v1", "ServiceAccount", "serviceaccounts")
DISRUPTION_BUDGETS = Resource("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICIES = Resource("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")
POD_MONITORS = Resource("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors")
INFERENCE_POOLS = Resource("inference.networking.k8s.io", "v1", "InferencePool", "inferencepools")
PODS = Resource("", "v1", "Pod", "pods")
NODES = Resource("", "v1", "Node", "nodes", namespaced=False)
EVENTS = Resource("events.k8s.io", "v1", "Event", "events")
LEASES = Resource("coordination.k8s.io", "v1", "Lease", "leases")

CHILDREN = (DEPLOYMENTS, SERVICES, CONFIG_MAPS, SERVICE_ACCOUNTS, DISRUPTION_BUDGETS, NETWORK_POLICIES)
"""The kinds of a ShiftDeployment's children, in the order of the API's documentation."""

WORKLOADS = (DEPLOYMENTS, LEADER_WORKER_SETS)
"""Kinds that run the replicas, of which a ShiftDeployment has one."""

REMOVABLE = (NETWORK_POLICIES, *WORKLOADS)
"""Kinds of children that a ShiftDeployment may come to lack again; the others are there as long as it is."""

WATCHED = (SHIFT_DEPLOYMENTS, *CHILDREN, PODS, NODES)
"""Every kind that kopf watches for us. Without one of them there is nothing to operate; but nodes
are seen only by an operator of the whole cluster."""

OPTIONAL = (POD_MONITORS, INFERENCE_POOLS, LEADER_WORKER_SETS)
"""Kinds of children that a cluster may lack, now or later: OptionalKinds watches these."""

GUIDANCE = (POLICIES, PROFILES)
"""What the decision loop goes by. Of the whole cluster: an operator of some namespaces may lack the right to see them,
an older chart their kinds. OptionalKinds watches these too."""

KEPT = (*WATCHED, *OPTIONAL, *GUIDANCE)
"""Every kind whose objects we keep in memory."""


def resource_of(api_version: str, kind: str) -> Resource:
    """The resource of a manifest. Raises KeyError for a kind that we never write."""
    return _BY_KIND[(api_version, kind)]


_BY_KIND = {(resource.api_version, resource.kind): resource for resource in (*WATCHED, *OPTIONAL, PROFILES)}
