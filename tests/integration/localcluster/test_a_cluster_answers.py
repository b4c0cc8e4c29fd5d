"""The plainest promise: the API server answers, a node is there, writes are counted."""

from __future__ import annotations

import json
import time

import pytest
from localcluster.errors import CommandFailed

from localcluster import Cluster

PATIENCE_SECONDS = 240.0


def test_the_node_is_ready_and_has_its_gpus(cluster: Cluster) -> None:
    cluster.kubectl("wait", "--for=condition=Ready", "node/node-0", "--timeout=240s")
    node = json.loads(cluster.kubectl("get", "node", "node-0", "--output=json"))
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "8"


def test_a_deployment_becomes_pods_on_the_node(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("create", "deployment", "web", "--image=unknown", "--namespace", namespace)
    nodes = "jsonpath={.items[*].spec.nodeName}"
    deadline = time.monotonic() + PATIENCE_SECONDS  # `kubectl wait` ends at once where there is no pod yet
    while cluster.kubectl("get", "pods", "--selector=app=web", "-n", namespace, "-o", nodes) != "node-0":
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_audit_log_has_one_line_per_write(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("create", "configmap", "counted", "--namespace", namespace)
    cluster.kubectl("get", "configmap", "counted", "--namespace", namespace)
    events = [json.loads(line) for line in cluster.audit_log.read_text().splitlines()]
    counted = [event for event in events if event["objectRef"].get("name") == "counted"]
    assert [(event["verb"], event["user"]["username"]) for event in counted] == [("create", "admin")]
    assert counted[0]["userAgent"].startswith("kubectl/")


def test_what_kubernetes_refuses_is_an_error_with_its_words(cluster: Cluster) -> None:
    with pytest.raises(CommandFailed, match="ImaginaryKind"):
        cluster.kubectl("create", "--filename=-", stdin="apiVersion: v1\nkind: ImaginaryKind\nmetadata: {name: x}\n")
