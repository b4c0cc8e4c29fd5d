"""A cluster of its own whose nodes have 2 GPUs, for replicas of 4, and the operator there.

LeaderWorkerSet is in it from the first test on that asks for `leader_worker_sets`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from localcluster import Cluster, NodeSpec
from tests.integration.operator.conftest import Audit, Operator, begin, install, place_in, shift_deployment
from tests.integration.operator.place import Place


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, images: Any) -> Iterator[Cluster]:
    nodes = [NodeSpec(f"node-{number}", 2) for number in range(4)]
    with Cluster(tmp_path_factory.mktemp("groups"), nodes=nodes, images=images.path, prometheus=False) as running:
        yield running


@pytest.fixture(scope="module")
def operator(cluster: Cluster, images: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    kubeconfig = install(cluster, images, tmp_path_factory.mktemp("operator"))
    flags = ("--resync-seconds", "1", "--decision-interval-seconds", "1")
    running = begin(kubeconfig, tmp_path_factory.mktemp("log") / "operator.log", *flags)
    yield running
    running.end()


@pytest.fixture(scope="module")
def leader_worker_sets(cluster: Cluster) -> None:
    """The kind, and its real controller."""
    cluster.install_leader_worker_sets()


@pytest.fixture
def place(cluster: Cluster, namespace: str, operator: Operator) -> Iterator[Place]:
    with place_in(cluster, namespace) as place:
        yield place


@pytest.fixture
def audit(cluster: Cluster) -> Audit:
    return Audit(cluster.audit_log)


@pytest.fixture
def a_deployment() -> Callable[..., dict[str, Any]]:
    """A ShiftDeployment `chat` of one replica with 4 GPUs, twice what a node has."""
    large = {"parallelism": {"gpusPerReplica": 4, "degree": {"sequence": 4, "tensor": 1}}}
    return lambda **spec: shift_deployment(**large | spec)
