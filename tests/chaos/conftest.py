"""A cluster of its own and two installs of the operator behind a fault proxy.

`everyone` has two operators with one Lease for the whole cluster, `team` one for a namespace and the ShiftDeployments
labelled with its name. Each process is started again when it ends, as a kubelet does it.

Every test ends with `chaos.settles()`: the state is what the plan asks, of each install one life wrote at a time, and
no pod was deleted beyond its Deployment's budget.
"""

from __future__ import annotations

import http.client
import json
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from localcluster.errors import CommandFailed
from shift_operator.api import labels
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.difference import differences
from shift_operator.planning.plan import plan
from shift_operator.planning.schedule import next_schedule, previous_schedule

from localcluster import Cluster, NodeSpec
from tests.chaos.audit import deleted_beyond_the_budget, deployment_of, entries, pods_deleted, writers
from tests.chaos.clock import Clock
from tests.chaos.fault_proxy import FaultProxy
from tests.chaos.supervised import Supervised
from tests.integration.operator.conftest import IMAGE, REPOSITORY, SYSTEM, kubeconfig_of
from tests.integration.operator.place import Place
from tests.integration.operator.test_a_second_operator_takes_over import token_id
from tests.integration.served import served

PATIENCE_SECONDS = 240.0
NAMESPACE = "chaos"
TEAM = "team"
NAMES = ("one", "two", "three")
OF_TEAM = ("four",)
REPLICAS = 2


@dataclass
class Install:
    """Operators with one Lease, and the ShiftDeployments that are theirs. Each operator has a clock of its own."""

    lease: str
    names: tuple[str, ...]
    operators: tuple[Supervised, ...]
    clocks: tuple[Clock, ...]
    token_ids: dict[str, int]


@dataclass
class Chaos:
    """What the tests disturb, and what must hold afterwards."""

    cluster: Cluster
    place: Place
    proxy: FaultProxy
    everyone: Install
    team: Install

    @property
    def installs(self) -> tuple[Install, Install]:
        return self.everyone, self.team

    def edit(self, name: str, threshold: int) -> None:
        """What takes effect live."""
        self._patch(name, {"shift": {"mode": "Fixed", "thresholdTokens": threshold}})

    def roll(self, name: str, version: int) -> None:
        """What replaces all pods."""
        self._patch(name, {"model": {"name": f"tiny-{version}"}})

    def _patch(self, name: str, spec: dict[str, Any]) -> None:
        self.place.kubectl("patch", "sd", name, "--type=merge", "--patch", json.dumps({"spec": spec}))

    def edits_again(self, name: str, threshold: int) -> bool:
        """Whether the API server takes edits: it answers before it has found etcd."""
        try:
            self.edit(name, threshold)
        except CommandFailed:
            return False
        return True

    def lose(self, *names: str) -> None:
        """Deletes the Services by hand: work for whoever may write."""
        self.place.kubectl("delete", "service", "--ignore-not-found", *names)

    def edit_rapidly(self, edits: list[tuple[str, int]]) -> None:
        """`edit`, without a process per edit."""
        certificates = self.cluster.directory / "certificates"
        context = ssl.create_default_context(cafile=certificates / "ca.crt")
        context.load_cert_chain(certificates / "admin.crt", certificates / "admin.key")
        host = self.cluster.server.removeprefix("https://")
        connection = http.client.HTTPSConnection(host, context=context, timeout=60)
        for name, threshold in edits:
            path = f"/apis/shiftparallel.io/v1alpha1/namespaces/{self.place.namespace}/shiftdeployments/{name}"
            body = json.dumps({"spec": {"shift": {"mode": "Fixed", "thresholdTokens": threshold}}})
            connection.request("PATCH", path, body, {"Content-Type": "application/merge-patch+json"})
            answer = connection.getresponse()
            text = answer.read().decode()
            assert answer.status == 200, text
        connection.close()

    def leader(self) -> Supervised | None:
        """Who leads of everyone's operators, by the Lease; None while nobody who lives does."""
        text = self.cluster.kubectl("-n", SYSTEM, "get", "lease", self.everyone.lease, "-o", "json")
        holder = json.loads(text)["spec"].get("holderIdentity")
        return next((one for one in self.everyone.operators if holder and one.identity == holder), None)

    def settles(self) -> None:
        """Waits until every ShiftDeployment is as planned; then checks what had to hold all the time."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        names = [name for install in self.installs for name in install.names]
        while found := [line for name in names for line in self.unsettled(name)]:
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        log = entries(self.cluster.audit_log)
        for install in self.installs:
            runs = writers(log, install.token_ids, self.place.namespace, install.names)
            assert runs, "nobody wrote: the test tested nothing"
            assert len(runs) == len(set(runs)), f"a life that had ended its writes wrote again: {runs}"
        for ours, others in (self.installs, self.installs[::-1]):
            assert not writers(log, ours.token_ids, self.place.namespace, others.names), "an install wrote another's"
        assert not deleted_beyond_the_budget(log, self.place.namespace)

    def pods_deleted(self) -> int:
        return pods_deleted(entries(self.cluster.audit_log), self.place.namespace)

    def unsettled(self, name: str) -> list[str]:
        """What is not yet as planned of this ShiftDeployment."""
        body = self.place.get("sd", name)
        deployment = ShiftDeployment.from_body(body)
        config_map = self.place.find("configmap", f"{name}-schedule")
        schedule = next_schedule(deployment.spec, previous_schedule(config_map, deployment.status))
        found = []
        for wanted in plan(deployment, schedule, replicas=body["spec"]["replicas"]):
            text = self.place.kubectl(
                "get", wanted.kind, wanted.name, "--output=json", "--show-managed-fields", "--ignore-not-found"
            )
            found += [f"{wanted}: {d}" for d in differences(wanted, json.loads(text) if text else None)]
        conditions = {c["type"]: c["reason"] for c in body.get("status", {}).get("conditions", [])}
        if body.get("status", {}).get("observedGeneration") != body["metadata"]["generation"]:
            found.append("status: of an older generation")
        if conditions.get("Progressing") != "RolloutComplete" or conditions.get("ConfigurationApplied") != "Confirmed":
            found.append(f"status: {conditions}")
        if (body["spec"]["shift"]["thresholdTokens"],) != tuple(r.up_to_tokens for r in schedule.ranges[:1]):
            found.append("schedule: of another threshold")
        arguments = [pod["spec"]["containers"][0]["args"] for pod in self.place.pods() if _is_of(pod, name)]
        if (
            sum(body["spec"]["model"]["name"] in one for one in arguments) != len(arguments)
            or len(arguments) != REPLICAS
        ):
            found.append(f"pods: {arguments}")
        return found


def _is_of(pod: dict[str, Any], name: str) -> bool:
    return deployment_of(pod["metadata"]["name"]) == name


@pytest.fixture(scope="session")
def chaos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chaos]:
    directory = tmp_path_factory.mktemp("chaos")
    images = directory / "images.yaml"
    engine = [sys.executable, str(REPOSITORY / "tests/integration/operator/fake_engine.py")]
    images.write_text(yaml.safe_dump({"images": {IMAGE: {"entrypoint": engine}}}))
    # The API server is away for longer than the node controller is patient by itself: it would count the node as lost.
    patience = {"kube-controller-manager": ["--node-monitor-grace-period=1h"]}
    nodes = [NodeSpec("node-0", 32)]
    with Cluster(directory / "cluster", nodes=nodes, images=images, prometheus=False, extra_flags=patience) as cluster:
        cluster.kubectl("apply", "--server-side", "-f", str(REPOSITORY / "crds"))
        for namespace in (SYSTEM, NAMESPACE):
            cluster.kubectl("create", "namespace", namespace)
        served(cluster, "shiftdeployments")
        authority = cluster.directory / "certificates" / "ca.crt"
        with FaultProxy(cluster.server, ssl.create_default_context(cafile=authority)) as proxy:
            scope = (f"--watch-namespaces={NAMESPACE}", f"--instance={TEAM}")
            values = ("--set", f"instance={TEAM}", "--set", f"watchNamespaces={{{NAMESPACE}}}")
            everyone = _install(cluster, proxy, directory, "shift-operator", NAMES, operators=2, lives=30)
            team = _install(
                cluster, proxy, directory, f"{TEAM}-shift-operator", OF_TEAM,
                operators=1, lives=20, flags=scope, values=values,
            )  # fmt: skip
            try:
                yield Chaos(cluster, Place(cluster, NAMESPACE), proxy, everyone, team)
            finally:
                proxy.fail(0)
                for operator in (*everyone.operators, *team.operators):
                    operator.end()


def _install(
    cluster: Cluster,
    proxy: FaultProxy,
    directory: Path,
    name: str,
    names: tuple[str, ...],
    *,
    operators: int,
    lives: int,
    flags: tuple[str, ...] = (),
    values: tuple[str, ...] = (),
) -> Install:
    """The chart's permissions, and the processes that the chart's Deployment would run. `name` is also the Lease's."""
    chart = (name.removesuffix("-shift-operator"), str(REPOSITORY / "charts/shift-operator"), "--namespace", SYSTEM)
    cluster.kubectl(
        "apply", "-f", "-", stdin=cluster.helm("template", *chart, "--show-only", "templates/rbac.yaml", *values)
    )
    kubeconfigs = list(_lives(cluster, proxy, directory / name, name, lives))
    left = iter(kubeconfigs)
    clocks = []
    started = []
    flags = ("--resync-seconds=20", f"--lease={SYSTEM}/{name}", *flags)
    for number in range(operators):
        place = directory / f"{name}-{number}"
        place.mkdir()
        clocks.append(Clock(place))
        started.append(Supervised(left, place / "lives", flags, clocks[-1].environment))
    token_ids = {token_id(life.with_name("token")): number for number, life in enumerate(kubeconfigs)}
    return Install(name, names, tuple(started), tuple(clocks), token_ids)


def _lives(cluster: Cluster, proxy: FaultProxy, directory: Path, account: str, count: int) -> Iterator[Path]:
    """Kubeconfigs, each with a token of its own, made before: a life may begin while no server is up."""
    for number in range(count):
        folder = directory / f"life-{number}"
        folder.mkdir(parents=True)
        kubeconfig = kubeconfig_of(cluster, account, folder)
        config: dict[str, Any] = yaml.safe_load(kubeconfig.read_text())
        for entry in config["clusters"]:
            entry["cluster"] = {"server": proxy.url}
        kubeconfig.write_text(yaml.safe_dump(config))
        yield kubeconfig


@pytest.fixture(autouse=True)
def settled_before(chaos: Chaos) -> None:
    """Each test begins with clocks that are right and ShiftDeployments as planned."""
    chaos.proxy.fail(0)
    for install in chaos.installs:
        for clock in install.clocks:
            clock.set_off(0)
        for name in install.names:
            if chaos.place.find("sd", name) is None:
                chaos.place.apply(_a_deployment(name, TEAM if install is chaos.team else ""))
    chaos.settles()


def _a_deployment(name: str, instance: str) -> dict[str, Any]:
    """Surge with maxUnavailable 0: not one ready pod may go before its successor serves."""
    return {
        "apiVersion": "shiftparallel.io/v1alpha1",
        "kind": "ShiftDeployment",
        "metadata": {"name": name, "labels": {labels.INSTANCE: instance} if instance else {}},
        "spec": {
            "model": {"uri": "file:///models/tiny", "name": "tiny"},
            "engine": {"image": IMAGE},
            "parallelism": {"gpusPerReplica": 2, "degree": {"sequence": 2, "tensor": 1}},
            "shift": {"mode": "Fixed", "thresholdTokens": 256},
            "replicas": REPLICAS,
            "rollout": {"strategy": "Surge", "maxSurge": 1, "maxUnavailable": 0},
            "drain": {"timeoutSeconds": 1},
        },
    }


def wait_until(holds: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)
