"""spec.networkPolicy.enabled makes a NetworkPolicy and removes it again; someone else's of the same name stays."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.integration.operator.conftest import Operator, kubeconfig_of
from tests.integration.operator.place import Place

ADeployment = Callable[..., dict[str, Any]]
ON = {"networkPolicy": {"enabled": True}}


def test_it_is_there_while_it_is_enabled(place: Any, a_deployment: ADeployment) -> None:
    place.apply(a_deployment(replicas=0, **ON))
    place.eventually(lambda: place.find("networkpolicy", "chat"))
    assert place.get("networkpolicy", "chat")["metadata"]["ownerReferences"][0]["name"] == "chat"
    place.kubectl("delete", "networkpolicy", "chat")
    place.eventually(lambda: place.find("networkpolicy", "chat"))
    place.apply(a_deployment(replicas=0))
    place.eventually(lambda: place.find("networkpolicy", "chat") is None)
    place.eventually(place.has("Degraded", "False"))


def test_one_that_is_not_ours_is_neither_taken_nor_removed(place: Any, a_deployment: ADeployment) -> None:
    foreign = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": "chat",
            "labels": {"app.kubernetes.io/managed-by": "shift-operator", "shiftparallel.io/deployment": "chat"},
        },
        "spec": {"podSelector": {}},
    }
    place.apply(foreign)
    place.apply(a_deployment(replicas=0, **ON))
    place.eventually(place.has("Degraded", "True", "NameTaken"))
    place.apply(a_deployment(replicas=0))
    place.eventually(place.has("Degraded", "False"))
    assert place.get("networkpolicy", "chat")["spec"]["podSelector"] == {}


def test_without_the_right_to_delete_it_stays_and_the_right_is_named(
    cluster: Any,
    namespace: str,
    installed: Path,
    helm_chart: Callable[..., str],
    start: Callable[..., Operator],
    a_deployment: ADeployment,
    tmp_path: Path,
) -> None:
    """The role of an older chart, under an operator of this version."""
    roles = list(yaml.safe_load_all(helm_chart("older")))
    for rule in (rule for role in roles if role["kind"] == "ClusterRole" for rule in role["rules"]):
        if rule["resources"] == ["networkpolicies"]:
            rule["verbs"].remove("delete")
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(roles))
    flags = ("--instance", "older", "--watch-namespaces", namespace, "--resync-seconds", "1")
    start(kubeconfig_of(cluster, "older-shift-operator", tmp_path), *flags)
    place = Place(cluster, namespace)

    def asks(**spec: Any) -> dict[str, Any]:
        body = a_deployment(replicas=0, **spec)
        body["metadata"]["labels"] = {"shiftparallel.io/operator": "older"}
        return body

    place.apply(asks(**ON))
    place.eventually(lambda: place.find("networkpolicy", "chat"))
    place.apply(asks())
    place.eventually(place.has("Degraded", "True", "WriteRefused"))
    message = place.condition("Degraded")["message"]
    assert message.startswith(f"delete networkpolicies.networking.k8s.io {namespace}/chat: ")
    assert place.notes("WriteRefused")[0].startswith(message[:60])
    assert place.find("networkpolicy", "chat")

    cluster.kubectl("apply", "-f", "-", stdin=helm_chart("older"))
    place.eventually(lambda: place.find("networkpolicy", "chat") is None)
    place.eventually(place.has("Degraded", "False"))
