"""Room for replicas: free GPUs of the nodes that the scheduler would consider."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.nodes import is_eligible, room

Build = Callable[..., ShiftDeployment]
GPU = "nvidia.com/gpu"
TAINT = {"key": GPU, "effect": "NoSchedule"}


def node(
    name: str = "a", gpus: int = 8, *, labels: dict[str, str] | None = None, ready: str = "True", **spec: Any
) -> Any:
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": spec,
        "status": {"allocatable": {GPU: str(gpus)}, "conditions": [{"type": "Ready", "status": ready}]},
    }


def pod(name: str | None, *gpus: int, init: int = 0, phase: str = "Running") -> Any:
    def container(count: int) -> Any:
        return {"resources": {"limits": {GPU: str(count)}}}

    spec: dict[str, Any] = {"containers": [container(count) for count in gpus], "initContainers": [container(init)]}
    return {"spec": spec | ({"nodeName": name} if name else {}), "status": {"phase": phase}}


def test_room_is_what_fits_whole_on_each_node(a_deployment: Build) -> None:
    deployment = a_deployment(parallelism={"gpusPerReplica": 4, "degree": {"sequence": 4, "tensor": 1}})
    nodes = [node("a"), node("b"), node("c", gpus=3), {"metadata": {"name": "cpu"}, "status": {}}]
    assert room(deployment, nodes, []) == 4
    assert room(deployment, nodes, [pod("a", 2), pod("b", 2)]) == 2, "6 free GPUs on each of two nodes hold one each"
    assert room(deployment, nodes, [pod("a", 2, 1), pod("b", 1, init=8)]) == 1
    assert room(deployment, nodes, [pod(None, 8), pod("a", 8, phase="Succeeded")]) == 4
    assert room(deployment, nodes, [pod("a", 8), pod("a", 8)]) == 2, "overcommitted, not negative"


@given(st.lists(st.integers(0, 16), max_size=4), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 8)), max_size=6))
def test_room_is_never_more_than_the_free_gpus(
    a_deployment: Build, free: list[int], held: list[tuple[int, int]]
) -> None:
    nodes = [node(str(number), gpus=gpus) for number, gpus in enumerate(free)]
    pods = [pod(str(number), gpus) for number, gpus in held]
    fitting = room(a_deployment(), nodes, pods)
    left = [max(0, gpus - sum(g for n, g in held if n == number)) for number, gpus in enumerate(free)]
    assert 0 <= fitting * 2 <= sum(left)
    assert fitting == sum(gpus // 2 for gpus in left)


def affinity(key: str, operator: str, *values: str, on: str = "matchExpressions") -> dict[str, Any]:
    requirement = {"key": key, "operator": operator} | ({"values": list(values)} if values else {})
    terms = {"nodeSelectorTerms": [{on: [requirement]}]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}


@pytest.mark.parametrize(
    ("scheduling", "there", "expected"),
    [
        ({}, node(), True),
        ({}, node(ready="Unknown"), False),
        ({}, node(unschedulable=True), False),
        ({}, node(taints=[TAINT]), False),
        ({}, node(taints=[TAINT | {"effect": "PreferNoSchedule"}]), True),
        ({"tolerations": [{"key": GPU, "operator": "Exists"}]}, node(taints=[TAINT]), True),
        ({"tolerations": [{"operator": "Exists"}]}, node(taints=[TAINT, {"key": "x", "effect": "NoExecute"}]), True),
        ({"tolerations": [{"key": GPU, "value": "a"}]}, node(taints=[TAINT | {"value": "a"}]), True),
        ({"tolerations": [{"key": GPU, "value": "a"}]}, node(taints=[TAINT | {"value": "b"}]), False),
        ({"tolerations": [{"key": GPU, "effect": "NoExecute"}]}, node(taints=[TAINT]), False),
        ({"nodeSelector": {"gpu": "h100"}}, node(labels={"gpu": "h100"}), True),
        ({"nodeSelector": {"gpu": "h100"}}, node(), False),
        (affinity("gpu", "In", "h100", "h200"), node(labels={"gpu": "h200"}), True),
        (affinity("gpu", "In", "h100"), node(), False),
        (affinity("gpu", "NotIn", "h100"), node(), True),
        (affinity("gpu", "Exists"), node(), False),
        (affinity("gpu", "DoesNotExist"), node(), True),
        (affinity("memory", "Gt", "70"), node(labels={"memory": "80"}), True),
        (affinity("memory", "Lt", "70"), node(labels={"memory": "80"}), False),
        (affinity("memory", "Gt", "70"), node(labels={"memory": "much"}), False),
        (affinity("metadata.name", "In", "a", on="matchFields"), node("a"), True),
        (affinity("metadata.name", "In", "b", on="matchFields"), node("a"), False),
    ],
)
def test_a_node_is_eligible_as_the_scheduler_would_say(
    a_deployment: Build, scheduling: dict[str, Any], there: Any, *, expected: bool
) -> None:
    assert is_eligible(there, a_deployment(scheduling=scheduling).spec.scheduling) is expected
