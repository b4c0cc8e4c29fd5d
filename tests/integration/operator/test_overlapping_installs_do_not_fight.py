"""Two installs that would serve the same ShiftDeployments: one writes, the other says that it does not.

Each process has a token of its own, whose id the API server's audit log keeps. The installs have an instance name in
common, so that the operator of the other tests leaves their ShiftDeployments alone.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.integration.operator.conftest import SYSTEM, Operator, kubeconfig_of
from tests.integration.operator.place import Place
from tests.integration.operator.test_a_second_operator_takes_over import token_id

INSTANCE = "shared"


@dataclass
class Install:
    """The process of an install, and the id of its token."""

    name: str
    operator: Operator
    token_id: str


@dataclass
class Site:
    """Where the installs of one test work, and what they wrote there."""

    place: Place
    audit_log: Path
    helm_chart: Callable[..., str]
    start: Callable[..., Operator]
    directory: Path
    installs: list[Install] = field(default_factory=list)

    def install(self, release: str, *namespaces: str) -> Install:
        """The chart's permissions under this release, and a process with its flags."""
        account = f"{release}-shift-operator"
        values = ("--set", f"watchNamespaces={{{','.join(namespaces)}}}") if namespaces else ()
        self.place.cluster.kubectl("apply", "-f", "-", stdin=self.helm_chart(release, *values))
        directory = self.directory / str(len(self.installs))
        directory.mkdir()
        kubeconfig = kubeconfig_of(self.place.cluster, account, directory)
        flags = ["--instance", INSTANCE, "--lease", f"{SYSTEM}/{account}"]
        if namespaces:
            flags += ["--watch-namespaces", ",".join(namespaces)]
        operator = self.start(kubeconfig, *flags, "--resync-seconds", "1")
        self.installs.append(Install(f"{SYSTEM}/{account}", operator, token_id(directory / "token")))
        return self.installs[-1]

    def writers(self) -> list[int]:
        """Which install wrote in the test's namespace, run by run, in the order in which the API server was asked.
        Events are not counted: they are about the ShiftDeployment, which they leave as it is."""
        numbers = {install.token_id: number for number, install in enumerate(self.installs)}
        entries = [json.loads(line) for line in self.audit_log.read_text().splitlines()]
        found = []
        for entry in sorted(entries, key=lambda entry: entry["requestReceivedTimestamp"]):
            (token,) = entry["user"].get("extra", {}).get("authentication.kubernetes.io/credential-id", [""])
            about = entry["objectRef"]
            if token in numbers and about.get("namespace") == self.place.namespace and about["resource"] != "events":
                found.append(numbers[token])
        return [number for number, _ in itertools.groupby(found)]


@pytest.fixture
def site(
    cluster: Any, namespace: str, installed: Path, helm_chart: Any, audit: Any, start: Any, tmp_path: Path
) -> Iterator[Site]:
    place = Place(cluster, namespace)
    site = Site(place, audit.path, helm_chart, start, tmp_path)
    yield site
    for install in site.installs:
        install.operator.process.kill()
        install.operator.process.wait()
        cluster.kubectl("--namespace", SYSTEM, "delete", "lease", install.name.split("/")[1], "--ignore-not-found")
    place.kubectl("delete", "sd", "--all", "--wait=false")


@pytest.fixture
def shared(a_deployment: Callable[..., dict[str, Any]]) -> Callable[[int], dict[str, Any]]:
    def build(threshold: int) -> dict[str, Any]:
        body = a_deployment(replicas=0, shift={"mode": "Fixed", "thresholdTokens": threshold})
        body["metadata"]["labels"] = {"shiftparallel.io/operator": INSTANCE}
        return body

    return build


def runs(place: Place, threshold: int) -> bool:
    found = place.find("configmap", "chat-schedule")
    return found is not None and json.loads(found["data"]["schedule.json"])["ranges"][0]["upToTokens"] == threshold


def left(install: Install) -> list[dict[str, Any]]:
    """The lines in which an install says that it leaves a ShiftDeployment to another."""
    return [line for line in install.operator.lines() if line["message"] == "left to another install"]


def test_one_that_names_the_namespace_serves_it_and_one_of_the_cluster_does_once_it_is_gone(
    site: Site, shared: Callable[[int], dict[str, Any]]
) -> None:
    place = site.place
    everywhere = site.install("platform")
    place.apply(shared(300))
    place.eventually(lambda: runs(place, 300) and place.has("Conflict", "False", "NoConflict")())

    named = site.install("team", place.namespace)
    place.eventually(place.has("Conflict", "True", "OverlappingInstalls"))
    message = place.condition("Conflict")["message"]
    assert message.startswith(
        f"{everywhere.name} would serve it too and leaves it to {named.name}, which names the namespace; give one of "
    )
    assert [note.split(";")[0] for note in place.notes("ServedByAnother")] == [
        f"{everywhere.name} would serve it too and leaves it to {named.name}, which names the namespace"
    ]
    assert [(line["key"], line["install"]) for line in left(everywhere)] == [(f"{place.namespace}/chat", named.name)]

    for threshold in (301, 302, 303):
        place.apply(shared(threshold))
        place.eventually(lambda threshold=threshold: runs(place, threshold))  # type: ignore[misc]
        place.kubectl("delete", "service", "chat")  # work for both, did both work
        place.eventually(lambda: place.find("service", "chat"))
    assert site.writers() == [0, 1]
    assert left(named) == []

    named.operator.process.kill()
    place.apply(shared(304))
    place.eventually(lambda: runs(place, 304) and place.has("Conflict", "False", "NoConflict")())
    assert site.writers() == [0, 1, 0]


def test_of_two_of_the_whole_cluster_the_older_serves_until_it_ends(
    site: Site, shared: Callable[[int], dict[str, Any]]
) -> None:
    place = site.place
    first = site.install("blue")
    place.apply(shared(300))
    place.eventually(lambda: runs(place, 300))
    second = site.install("green")
    place.eventually(lambda: left(second))
    place.eventually(place.has("Conflict", "True", "OverlappingInstalls"))
    assert place.condition("Conflict")["message"].startswith(
        f"{second.name} would serve it too and leaves it to {first.name}, whose Lease is older; "
    )
    place.apply(shared(301))
    place.eventually(lambda: runs(place, 301))
    assert site.writers() == [0]

    assert first.operator.end() == 0
    place.apply(shared(302))
    place.eventually(lambda: runs(place, 302))
    assert site.writers() == [0, 1]
