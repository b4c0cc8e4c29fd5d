"""What an older operator left is taken over as it is: no ReplicaSet more, no pod replaced, no container restarted.

`golden/` keeps what older operators applied. Whole templates by their hash: tests/unit/planning.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.operator.conftest import Operator
from tests.integration.operator.place import Place

GOLDEN = sorted(Path(__file__).with_name("golden").glob("*.yaml"))
INSTANCE = "upgrade"
"""So that the operator of the other tests leaves the golden ShiftDeployments alone."""


@pytest.fixture
def place(cluster: Any, namespace: str, installed: Path) -> Iterator[Place]:
    place = Place(cluster, namespace)
    place.kubectl("create", "secret", "generic", "hf", "--from-literal=token=t")
    yield place
    place.kubectl("delete", "sd", "--all", "--wait=false")
    place.kubectl("delete", "pods", "--all", "--force", "--grace-period=0")


def as_left_by_an_older_operator(place: Place, file: Path) -> None:
    """The golden ShiftDeployment, and its children under the operator's field manager."""
    deployment, *children = yaml.safe_load_all(file.read_text())
    place.apply(deployment)
    uid = place.get("sd", "chat")["metadata"]["uid"]
    for child in children:
        child["metadata"]["namespace"] = place.namespace
        (owner,) = child["metadata"]["ownerReferences"]
        owner["uid"] = uid
        place.kubectl("apply", "--server-side", "--field-manager=shift-operator", "-f", "-", stdin=json.dumps(child))


def replicas(place: Place) -> dict[str, Any]:
    """The pods with the restarts of their containers, the ReplicaSets, and how often the Deployment's spec changed."""
    sets = json.loads(place.kubectl("get", "replicasets", "--output", "json"))["items"]
    return {
        "pods": {
            pod["metadata"]["uid"]: sum(status["restartCount"] for status in pod["status"]["containerStatuses"])
            for pod in place.pods()
        },
        "replica sets": {replica_set["metadata"]["uid"] for replica_set in sets},
        "spec": place.get("deployment", "chat")["metadata"]["generation"],
    }


@pytest.mark.parametrize("file", GOLDEN, ids=[file.stem for file in GOLDEN])
def test_what_an_older_operator_applied_stays_as_it_is(
    place: Place, installed: Path, start: Callable[..., Operator], audit: Any, file: Path
) -> None:
    as_left_by_an_older_operator(place, file)
    place.eventually(lambda: place.get("deployment", "chat").get("status", {}).get("readyReplicas") == 2)
    before = replicas(place)
    audit.mark()

    flags = ("--instance", INSTANCE, "--watch-namespaces", place.namespace, "--resync-seconds", "1")
    operator = start(installed, *flags)
    place.eventually(place.has("Progressing", "True", "RolloutComplete"))
    place.eventually(place.has("ConfigurationApplied", "True"))
    resyncs = operator.metric("shift_operator_reconcile_seconds_count")
    place.eventually(lambda: operator.metric("shift_operator_reconcile_seconds_count") > resyncs + 2)
    assert replicas(place) == before
    written = [write for write in audit.writes() if f" {place.namespace}/" in write]
    assert [write for write in written if write.startswith("patch deployments ")] == []
    assert place.notes("ChildRepaired") == []
    assert operator.end() == 0
