"""What we applied is as wanted, whatever the server made of it; what others changed is found, with who did it.

The record of ownership (managedFields) is the API server's own here: applied as the operator applies, read back.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from shift_operator.api.schedule import Schedule
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.difference import differences
from shift_operator.planning.manifest import Manifest, is_controlled_by
from shift_operator.planning.plan import plan
from shift_operator.planning.schedule import next_schedule

from localcluster import Cluster

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
SELECTOR = {"matchLabels": {}, "matchExpressions": [{"key": "a", "operator": "Exists", "values": []}]}
EVERYTHING: dict[str, Any] = {
    "model": {
        "uri": "hf://org/name",
        "name": "served",
        "revision": "abc",
        "tokenSecretRef": {"name": "hf", "key": "token"},
        "cache": {"claimName": "models", "subPath": "hub"},
    },
    "engine.args": ["--enforce-eager"],
    "engine.env": [
        {"name": "A", "value": "1"},
        {"name": "B", "value": ""},
        {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "D", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}},
        {"name": "E", "valueFrom": {"configMapKeyRef": {"name": "s", "key": "k"}}},
    ],
    "engine.imagePullSecrets": [{"name": "pull"}],
    "engine.resources": {"cpu": "2000m", "memory": "2048Mi"},
    "rollout": {"maxSurge": 0, "maxUnavailable": 1},
    "replicas": 0,
    "disruption": {"minAvailable": 3},
    "networkPolicy": {
        "enabled": True,
        "allowFrom": [
            {"podSelector": SELECTOR},
            {"namespaceSelector": {"matchLabels": {"a": "", "b": "c"}}, "podSelector": {}},
        ],
    },
    "scheduling": {
        "queueName": "team-a",
        "nodeSelector": {"a": "", "b": "c"},
        "tolerations": [
            {"operator": "Exists"},
            {"key": "a", "value": "", "effect": "NoExecute", "tolerationSeconds": 0},
        ],
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"},
            {"maxSkew": 2, "topologyKey": "node", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": SELECTOR},
        ],
        "affinity": {
            "nodeAffinity": {
                REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}
            },
            "podAffinity": {
                REQUIRED: [
                    {"topologyKey": "zone", "labelSelector": SELECTOR, "namespaceSelector": {}, "namespaces": []}
                ]
            },
            "podAntiAffinity": {},
        },
    },
}
EVERYTHING["template"] = {
    "metadata": {"labels": {"team": "", "a.b/c": "d"}, "annotations": {"empty": "", "a/b": "c"}},
    "spec": {
        "containers": [
            {
                "name": "engine",
                "volumeMounts": [
                    {"name": "files", "mountPath": "/files", "readOnly": False, "subPath": "a"},
                    {"name": "keys", "mountPath": "/keys", "readOnly": True},
                ],
                "securityContext": {"runAsUser": 2000, "runAsGroup": 0, "readOnlyRootFilesystem": False},
            },
            {
                "name": "logs",
                "image": "example.com/logs:1",
                "command": ["sh"],
                "args": ["-c", ""],
                "env": [
                    {"name": "A", "value": ""},
                    {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                ],
                "ports": [{"name": "metrics", "containerPort": 9000}, {"containerPort": 9001}],
                "resources": {"requests": {"cpu": "1000m"}, "limits": {"cpu": "2000m", "memory": "1024Mi"}},
                "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
            },
        ],
        "initContainers": [
            {"name": "first", "image": "example.com/first:1"},
            {"name": "proxy", "image": "example.com/proxy:1", "restartPolicy": "Always"},
        ],
        "volumes": [
            {"name": "files", "configMap": {"name": "files", "optional": False}},
            {"name": "keys", "secret": {"secretName": "keys", "optional": True}},
            {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "2048Mi"}},
            {"name": "disk", "emptyDir": {}},
            {"name": "claim", "persistentVolumeClaim": {"claimName": "claim", "readOnly": False}},
        ],
        "securityContext": {"fsGroup": 0, "supplementalGroups": [1001, 1002]},
        "runtimeClassName": "nvidia",
        "schedulerName": "other",
    },
}
SPECS = [{}, {"model": {"uri": "pvc://claim/path"}}, EVERYTHING]


@dataclass
class Children:
    """A ShiftDeployment in the cluster and its children, applied by hand."""

    cluster: Cluster
    namespace: str
    deployment: ShiftDeployment
    schedule: Schedule

    def wanted(self, **changes: Any) -> tuple[Manifest, ...]:
        spec = self.deployment.spec.model_copy(update=changes)
        return plan(self.deployment.model_copy(update={"spec": spec}), self.schedule, replicas=0)

    def workload(self, **changes: Any) -> Manifest:
        return next(manifest for manifest in self.wanted(**changes) if manifest.kind == "Deployment")

    def apply(self, *manifests: Manifest) -> None:
        for manifest in manifests:
            self.kubectl(
                "apply", "--server-side", "--force-conflicts", "--field-manager=shift-operator", "-f", "-",
                stdin=json.dumps(manifest.body),
            )  # fmt: skip

    def live(self, manifest: Manifest) -> dict[str, Any]:
        text = self.kubectl("get", f"{manifest.kind}/{manifest.name}", "-o", "json", "--show-managed-fields")
        body: dict[str, Any] = json.loads(text)
        return body

    def found(self, manifest: Manifest) -> list[str]:
        return [str(difference) for difference in differences(manifest, self.live(manifest))]

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl("-n", self.namespace, *arguments, stdin=stdin)


@pytest.fixture
def children(crd: Cluster, namespace: str, answer: Callable[..., str], request: pytest.FixtureRequest) -> Children:
    """The children of the spec given as the fixture's parameter, applied."""
    assert answer({"replicas": 0, **getattr(request, "param", {})}) == "accepted"
    body = json.loads(crd.kubectl("-n", namespace, "get", "sd", "chat", "-o", "json"))
    deployment = ShiftDeployment.from_body(body)
    made = Children(crd, namespace, deployment, next_schedule(deployment.spec, None))
    made.apply(*made.wanted())
    return made


@pytest.mark.parametrize("children", SPECS, indirect=True, ids=["minimal", "claim", "everything"])
def test_what_was_applied_is_as_wanted(children: Children) -> None:
    for manifest in children.wanted():
        live = children.live(manifest)
        assert [str(d) for d in differences(manifest, live)] == []
        assert is_controlled_by(live, children.deployment)


def test_what_is_not_there_is_missing(children: Children) -> None:
    assert [str(d) for d in differences(children.workload(), None)] == ["object is missing"]


def test_a_field_that_someone_changed_is_found_with_who_did_it(children: Children) -> None:
    children.kubectl("scale", "deployment/chat", "--replicas=5")
    children.kubectl("set", "image", "deployment/chat", "engine=other:1", "--field-manager=someone")
    children.kubectl("set", "env", "deployment/chat", "SHIFT_TERMINATION_LOG=x", "--field-manager=someone")
    assert sorted(children.found(children.workload())) == [
        "spec.replicas was changed by kubectl",
        "spec.template.spec.containers[engine].env[SHIFT_TERMINATION_LOG].value was changed by someone",
        "spec.template.spec.containers[engine].image was changed by someone",
    ]
    children.apply(children.workload())
    assert children.live(children.workload())["spec"]["replicas"] == 0
    assert children.found(children.workload()) == []


def test_a_broken_schedule_is_found(children: Children) -> None:
    config_map = children.wanted()[1]
    patch = json.dumps({"data": {"schedule.json": "{}"}})
    children.kubectl("patch", "configmap/chat-schedule", "-p", patch, "--field-manager=someone")
    assert children.found(config_map) == ["data was changed by someone"]
    children.apply(config_map)
    assert children.found(config_map) == []


def test_a_label_or_owner_that_was_removed_is_found(children: Children) -> None:
    service = children.wanted()[2]
    children.kubectl("label", "service/chat", "app.kubernetes.io/managed-by-")
    removed = '[{"op": "remove", "path": "/metadata/ownerReferences"}]'
    children.kubectl("patch", "service/chat", "--type=json", "-p", removed)
    assert sorted(children.found(service)) == [
        "metadata.labels.app.kubernetes.io/managed-by was changed",
        "metadata.ownerReferences was changed",
    ]


@pytest.mark.parametrize("children", [EVERYTHING], indirect=True)
def test_what_is_no_longer_wanted_is_found_and_goes(children: Children) -> None:
    spec = children.deployment.spec
    fewer = children.workload(
        scheduling=spec.scheduling.model_copy(update={"affinity": None, "node_selector": {"b": "c"}}),
        engine=spec.engine.model_copy(update={"env": spec.engine.env[1:]}),
    )
    assert sorted(children.found(fewer)) == [
        "spec.template.spec.affinity is no longer wanted",
        "spec.template.spec.containers[engine].env[A] is no longer wanted",
        "spec.template.spec.nodeSelector was changed",
    ]
    children.apply(fewer)
    assert children.found(fewer) == []
    assert "affinity" not in children.live(fewer)["spec"]["template"]["spec"]


def test_what_others_added_is_theirs(children: Children) -> None:
    children.kubectl("annotate", "deployment/chat", "example.com/team=a")
    children.kubectl("label", "deployment/chat", "team=a")
    children.kubectl("set", "env", "deployment/chat", "EXTRA=1")
    assert children.found(children.workload()) == []
    children.apply(children.workload())
    live = children.live(children.workload())
    assert live["metadata"]["labels"]["team"] == "a"
    assert live["metadata"]["annotations"]["example.com/team"] == "a"


def test_what_someone_else_made_is_not_ours(children: Children) -> None:
    children.kubectl("delete", "serviceaccount/chat")
    children.kubectl("create", "serviceaccount", "chat")
    account = children.wanted()[0]
    assert children.found(account) == ["object was not applied by us"]
    assert not is_controlled_by(children.live(account), children.deployment)
