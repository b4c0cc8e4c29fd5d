"""The CRD on a real API server, and a way to ask it about specs."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from localcluster.errors import CommandFailed

from localcluster import Cluster

REPOSITORY = Path(__file__).parents[3]

Answer = Callable[..., str]

GOOD: dict[str, Any] = {
    "model": {"uri": "hf://org/name"},
    "engine": {"image": "example.com/shift-engine:1"},
    "parallelism": {"gpusPerReplica": 8, "degree": {"sequence": 4, "tensor": 2}},
}


def changed(spec: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with the values at these dotted paths; ... removes one."""
    result: dict[str, Any] = copy.deepcopy(dict(spec))
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = result
        for name in parents:
            place = place.setdefault(name, {})
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return result


@pytest.fixture(scope="session")
def crd(cluster: Cluster) -> Cluster:
    """The session's cluster with the CRD in it."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(REPOSITORY / "crds"))
    cluster.kubectl("wait", "--for=condition=Established", "crd/shiftdeployments.shiftparallel.io", "--timeout=30s")
    return cluster


@pytest.fixture
def verdict(crd: Cluster) -> Answer:
    """What the API server would say to a new object: the good spec with these changes. Nothing is stored."""
    return partial(_ask, crd, "default", ("create", "--dry-run=server"))


@pytest.fixture
def answer(crd: Cluster, namespace: str) -> Answer:
    """What the API server says when the good spec with these changes is applied."""
    return partial(_ask, crd, namespace, ("apply",))


def _ask(
    cluster: Cluster,
    namespace: str,
    verb: tuple[str, ...],
    changes: Mapping[str, Any] | None = None,
    *,
    name: str = "chat",
) -> str:
    """ "accepted", or the refusal."""
    body = {
        "apiVersion": "shiftparallel.io/v1alpha1",
        "kind": "ShiftDeployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": changed(GOOD, changes or {}),
    }
    try:
        cluster.kubectl(*verb, "--validate=strict", "-f", "-", stdin=json.dumps(body))
    except CommandFailed as refusal:
        return str(refusal)
    return "accepted"
