"""The chart by the real helm on the real API server: it renders, installs and upgrades, and grants what is used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from localcluster.errors import CommandFailed

from localcluster import Cluster

REPOSITORY = Path(__file__).parents[3]
CHART = str(REPOSITORY / "charts" / "shift-operator")
RELEASE = "shift-operator"
CRD = "crd/shiftdeployments.shiftparallel.io"

# What the operator does, by the API server's words: nothing here may be missing, nothing else may be granted.
READ = ("get", "list", "watch")
RIGHTS = {
    ("shiftparallel.io", "shiftdeployments"): {*READ},
    ("shiftparallel.io", "shiftdeployments/status"): {"patch"},
    ("shiftparallel.io", "shiftdeployments/finalizers"): {"update"},
    ("apps", "deployments"): {*READ, "create", "patch", "delete"},
    ("apps", "replicasets"): {"get"},
    ("", "services"): {*READ, "create", "patch"},
    ("", "configmaps"): {*READ, "create", "patch"},
    ("", "serviceaccounts"): {*READ, "create", "patch"},
    ("policy", "poddisruptionbudgets"): {*READ, "create", "patch"},
    ("networking.k8s.io", "networkpolicies"): {*READ, "create", "patch", "delete"},
    ("monitoring.coreos.com", "podmonitors"): {*READ, "create", "patch"},
    ("inference.networking.k8s.io", "inferencepools"): {*READ, "create", "patch"},
    ("leaderworkerset.x-k8s.io", "leaderworkersets"): {*READ, "create", "patch", "delete"},
    ("", "pods"): {*READ, "patch"},
    ("", "nodes"): {*READ},
    ("events.k8s.io", "events"): {"create", "patch"},
}
# In every namespace and for all of them: policies and profiles belong to none, other installs may be in any.
CLUSTER_RIGHTS = {
    ("shiftparallel.io", "clustershiftpolicies"): {*READ},
    ("shiftparallel.io", "shiftprofiles"): {*READ, "create", "patch"},
    ("shiftparallel.io", "clustershiftpolicies/status"): {"patch"},
    ("coordination.k8s.io", "leases"): {"list"},
}


@dataclass
class Helm:
    """Helm on the session's cluster, with folders of its own."""

    cluster: Cluster
    namespace: str

    def __call__(self, *arguments: str) -> str:
        return self.cluster.helm(*arguments, "--namespace", self.namespace)

    def rendered(self, *arguments: str) -> dict[str, dict[str, Any]]:
        """The chart's objects as rendered without a cluster, by kind and name."""
        text = self("template", RELEASE, CHART, *arguments)
        objects = [body for body in yaml.safe_load_all(text) if body]
        return {f"{body['kind']}/{body['metadata']['name']}": body for body in objects}


@pytest.fixture
def helm(cluster: Cluster, namespace: str) -> Helm:
    return Helm(cluster, namespace)


@pytest.fixture
def release(helm: Helm, crd: Cluster) -> Iterator[Helm]:
    """The chart installed; its image starts nothing here, so nothing waits for the pod."""
    helm("install", RELEASE, CHART, "--take-ownership", "--set", "prometheus.url=http://127.0.0.1:1")
    yield helm
    helm("uninstall", RELEASE, "--ignore-not-found")


def container(objects: dict[str, dict[str, Any]]) -> dict[str, Any]:
    (only,) = objects["Deployment/shift-operator"]["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def test_it_passes_helms_own_lint(helm: Helm) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART)


def test_the_defaults_start_the_operator_on_the_pods_address(helm: Helm) -> None:
    operator = container(helm.rendered())
    assert operator["image"] == "ghcr.io/shiftparallel/shift-operator:0.1.0"
    assert operator["args"] == [
        "--host=$(POD_IP)",
        "--port=8080",
        "--log-level=INFO",
        "--decision-interval-seconds=15",
        f"--lease={helm.namespace}/shift-operator",
    ]
    assert operator["securityContext"]["readOnlyRootFilesystem"] is True


def test_values_become_flags_and_files(helm: Helm) -> None:
    objects = helm.rendered(
        "--set", "prometheus.url=https://prometheus:9090",
        "--set", "prometheus.tokenSecret.name=token",
        "--set", "prometheus.caConfigMap.name=ca",
        "--set", "decisionIntervalSeconds=2",
        "--set", "watchNamespaces={a,b}",
        "--set", "instance=team-a",
        "--set", "extraArgs={--resync-seconds=30}",
        "--set", "image.digest=sha256:" + "0" * 64,
    )  # fmt: skip
    operator = container(objects)
    assert operator["args"][3:] == [
        "--decision-interval-seconds=2",
        f"--lease={helm.namespace}/shift-operator",
        "--instance=team-a",
        "--prometheus-url=https://prometheus:9090",
        "--prometheus-token-file=/etc/prometheus-token/token",
        "--prometheus-ca-file=/etc/prometheus-ca/ca.crt",
        "--watch-namespaces=a,b",
        "--resync-seconds=30",
    ]
    assert operator["image"].endswith("@sha256:" + "0" * 64)
    mounts = {mount["name"]: mount["mountPath"] for mount in operator["volumeMounts"]}
    assert mounts == {"prometheus-token": "/etc/prometheus-token", "prometheus-ca": "/etc/prometheus-ca"}


def test_the_crds_are_those_of_the_repository_and_may_be_left_out(helm: Helm) -> None:
    files = [yaml.safe_load(file.read_text()) for file in (REPOSITORY / "crds").glob("*.yaml")]
    rendered, without = helm.rendered(), helm.rendered("--set", "crds.install=false")
    assert len(files) == 3
    for file in files:
        name = f"CustomResourceDefinition/{file['metadata']['name']}"
        assert rendered[name]["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
        assert rendered[name] == file
        assert name not in without


def test_with_namespaces_the_rights_end_at_them_but_for_policies_profiles_and_leases(helm: Helm) -> None:
    objects = helm.rendered("--set", "watchNamespaces={a,b}")
    bindings = [b for name, b in objects.items() if name.startswith("RoleBinding/") and not name.endswith("-lease")]
    assert [name for name in objects if name.startswith("ClusterRoleBinding/")] == [
        f"ClusterRoleBinding/{helm.namespace}-shift-operator-policies"
    ]
    assert len(bindings) == 1  # by kind and name; each namespace has its own
    text = helm("template", RELEASE, CHART, "--set", "watchNamespaces={a,b}", "--show-only", "templates/rbac.yaml")
    bound = {
        body["metadata"]["namespace"]
        for body in yaml.safe_load_all(text)
        if body["kind"] == "RoleBinding" and body["roleRef"]["kind"] == "ClusterRole"
    }
    assert bound == {"a", "b"}


def test_its_role_grants_what_the_operator_does_and_no_more(helm: Helm) -> None:
    roles = {
        name.removesuffix("-policies") == name: granted_by(body)
        for name, body in helm.rendered().items()
        if name.startswith("ClusterRole/") and not name.endswith(("-edit", "-view"))
    }
    assert roles == {True: RIGHTS, False: CLUSTER_RIGHTS}


def granted_by(role: dict[str, Any]) -> dict[tuple[str, str], set[str]]:
    granted: dict[tuple[str, str], set[str]] = {}
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                granted.setdefault((group, resource), set()).update(rule["verbs"])
    return granted


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("prometheus.url=prometheus:9090", "/prometheus/url"),
        ("replicaCount=2", "additional properties 'replicaCount' not allowed"),
        ("serviceAccount.create=false", "serviceAccount.name is needed with serviceAccount.create=false"),
    ],
)
def test_a_bad_value_is_refused(helm: Helm, flag: str, words: str) -> None:
    with pytest.raises(CommandFailed) as refusal:
        helm("template", RELEASE, CHART, "--set", flag)
    assert words in str(refusal.value)


def test_installed_its_account_may_do_its_work(release: Helm) -> None:
    def may(verb: str, resource: str, *more: str) -> bool:
        user = f"system:serviceaccount:{release.namespace}:shift-operator"
        try:
            return release.cluster.kubectl("auth", "can-i", verb, resource, "--as", user, "-A", *more).strip() == "yes"
        except CommandFailed:
            return False

    assert may("patch", "shiftdeployments.shiftparallel.io", "--subresource=status")
    assert may("create", "deployments.apps")
    assert not may("patch", "shiftdeployments.shiftparallel.io")
    assert not may("update", "leases.coordination.k8s.io"), "only its own Lease, and only in its own namespace"
    user = f"system:serviceaccount:{release.namespace}:shift-operator"
    own = ("auth", "can-i", "update", "leases.coordination.k8s.io/shift-operator", "--as", user)
    assert release.cluster.kubectl(*own, "--namespace", release.namespace).strip() == "yes"
    assert not may("get", "secrets")
    assert not may("delete", "pods")


def test_an_upgrade_brings_the_new_crd_and_uninstalling_leaves_it(release: Helm) -> None:
    cluster = release.cluster
    older = json.dumps([{"op": "remove", "path": "/spec/names/shortNames"}])
    cluster.kubectl("patch", CRD, "--type=json", "-p", older)
    release("upgrade", RELEASE, CHART, "--force-conflicts", "--set", "decisionIntervalSeconds=5")
    assert cluster.kubectl("get", CRD, "-o", "jsonpath={.spec.names.shortNames}") == '["sd"]'
    release("uninstall", RELEASE)
    assert cluster.kubectl("get", CRD, "-o", "name")
