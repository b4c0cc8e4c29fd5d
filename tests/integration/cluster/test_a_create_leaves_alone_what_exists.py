"""On the real API server: one request creates a child where there is none, and refuses it where there is one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from shift_operator.cluster.client import Cluster
from shift_operator.cluster.credentials import load_credentials
from shift_operator.cluster.errors import Conflict

POD = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "one", "image": "none"}]}}
SELECTOR = {"matchLabels": {"a": "b"}}
CHILDREN: dict[str, dict[str, Any]] = {
    "v1 ServiceAccount": {"automountServiceAccountToken": False},
    "v1 ConfigMap": {"data": {"ours": "1"}},
    "v1 Service": {"spec": {"ports": [{"port": 8000}]}},
    "policy/v1 PodDisruptionBudget": {"spec": {"minAvailable": 1, "selector": SELECTOR}},
    "networking.k8s.io/v1 NetworkPolicy": {"spec": {"podSelector": SELECTOR}},
    "apps/v1 Deployment": {"spec": {"replicas": 0, "selector": SELECTOR, "template": POD}},
}


@pytest.mark.parametrize("kind", CHILDREN)
async def test_a_second_create_is_a_conflict_and_changes_nothing(
    cluster: Any, namespace: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    api_version, name = kind.split()
    metadata = {"namespace": namespace, "name": "chat"}
    child = {"apiVersion": api_version, "kind": name, "metadata": metadata, **CHILDREN[kind]}
    async with Cluster(await load_credentials()) as client:
        created = await client.create(child)
        assert [entry["operation"] for entry in created["metadata"]["managedFields"]] == ["Apply"]
        with pytest.raises(Conflict):
            await client.create(child)
        with pytest.raises(Conflict):
            await client.create(child | {"metadata": metadata | {"annotations": {"ours": "now"}}})
    there = json.loads(cluster.kubectl("get", name, "chat", "-n", namespace, "-o", "json"))
    assert "annotations" not in there["metadata"] or "ours" not in there["metadata"]["annotations"]
