"""Who may reach the replicas: a NetworkPolicy, where the user asks for one."""

from typing import Any

from shift_operator.api import labels
from shift_operator.api.affinity import LabelSelector
from shift_operator.api.network import NetworkPeer
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.manifest import Manifest, child
from shift_operator.planning.names import workload_name
from shift_operator.planning.stored import as_stored

# It asks each engine which schedule it runs. Its namespace is not known here, its label is what the chart gives it.
OPERATOR = {"namespaceSelector": {}, "podSelector": {"matchLabels": {labels.NAME: labels.OPERATOR}}}
OWN_NAMESPACE = (NetworkPeer(pod_selector=LabelSelector()),)


def network_policy(deployment: ShiftDeployment, nodes: int = 1) -> Manifest:
    """The NetworkPolicy: the engines' port for the user's peers and the operator, no other port for anybody; where a
    replica has several `nodes`, every port among its pods, whose ranks choose theirs."""
    peers = [OPERATOR, *(_peer(peer) for peer in deployment.spec.network_policy.allow_from or OWN_NAMESPACE)]
    ingress: list[dict[str, Any]] = [{"from": peers, "ports": [{"protocol": "TCP", "port": labels.HTTP_PORT}]}]
    selector = {"matchLabels": labels.selector_labels(deployment.name)}
    if nodes > 1:
        selector = {"matchLabels": labels.group_labels(deployment.name)}
        ingress.append({"from": [{"podSelector": selector}]})
    spec = {"podSelector": selector, "policyTypes": ["Ingress"], "ingress": ingress}
    name = workload_name(deployment.name)
    return child(deployment, "networking.k8s.io/v1", "NetworkPolicy", name, {"spec": spec})


def _peer(peer: NetworkPeer) -> dict[str, Any]:
    stored: dict[str, Any] = as_stored(peer.to_body())
    return stored
