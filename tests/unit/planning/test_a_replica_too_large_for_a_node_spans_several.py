"""Over how many nodes a replica goes: chosen while no replica runs, kept while one does, said where it cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.groups import nodes_of
from shift_operator.planning.span import Span, next_span
from shift_operator.planning.workload import workload

from .conftest import build

Build = Callable[..., ShiftDeployment]
RUNNING = ({"metadata": {"name": "a", "labels": {}}, "status": {"phase": "Running"}},)
GROUPED = ({"metadata": {"name": "a", "labels": {"leaderworkerset.sigs.k8s.io/name": "chat"}}, "status": {}},)


def of(gpus: int) -> ShiftDeployment:
    return build(parallelism={"gpusPerReplica": gpus, "degree": {"sequence": gpus, "tensor": 1}})


def live(nodes: int, replicas: int = 1) -> Any:
    return workload(of(16), replicas, nodes=nodes).body


def test_a_replica_takes_the_fewest_nodes_that_hold_it() -> None:
    assert next_span(of(16), 8, None, (), groups_served=True) == Span(2)
    assert next_span(of(16), 6, None, (), groups_served=True).obstacle == (
        "a replica asks for 16 nvidia.com/gpu, the largest node that it may run on has 6, and 16 GPUs do not divide "
        "evenly over 3 nodes, so no pod is made: add a larger node, or create a ShiftDeployment with gpusPerReplica of "
        "at most 6"
    )


@pytest.mark.parametrize("served", [True, False])
def test_a_replica_that_fits_a_node_or_whose_nodes_are_unknown_is_one_pod(served: bool) -> None:
    assert next_span(of(16), None, None, (), groups_served=served) == Span(1)


def test_without_the_kind_the_obstacle_names_it() -> None:
    assert next_span(of(16), 8, None, (), groups_served=False) == Span(
        obstacle="a replica asks for 16 nvidia.com/gpu, the largest node that it may run on has 8; over 2 nodes it "
        "needs LeaderWorkerSet (leaderworkerset.x-k8s.io), which the cluster lacks or the operator may not use, so no "
        "pod is made: install it, add a larger node, or create a ShiftDeployment with gpusPerReplica of at most 8"
    )


def test_a_name_without_room_for_what_is_appended_is_said() -> None:
    long = of(16).model_copy(update={"metadata": of(16).metadata.model_copy(update={"name": "a" * 49})})
    obstacle = next_span(long, 8, None, (), groups_served=True).obstacle
    assert obstacle is not None
    assert "over 2 nodes its name may have 48 characters, and it has 49" in obstacle


def test_a_workload_that_asks_for_nothing_and_has_no_pod_makes_place_for_the_other_kind() -> None:
    assert next_span(of(16), 8, live(1, replicas=0), (), groups_served=True) == Span(2)
    assert next_span(of(16), None, live(2, replicas=0), (), groups_served=True) == Span(1)


@pytest.mark.parametrize(("replicas", "pods"), [(1, ()), (0, RUNNING)])
def test_replicas_that_run_keep_their_nodes_and_the_advice_says_how_to_move(replicas: int, pods: Any) -> None:
    span = next_span(of(16), None, live(2, replicas), pods, groups_served=True)
    assert (span.nodes, span.obstacle) == (2, None)
    assert span.advice == (
        "the replicas that run span 2 nodes each, new ones would span 1; to have that, set spec.suspend to true until "
        "no pod is left, then to false"
    )


def test_one_that_no_longer_fits_its_nodes_asks_for_no_more() -> None:
    span = next_span(of(16), 8, live(1), RUNNING, groups_served=True)
    assert span.nodes == 1
    assert span.obstacle is not None
    assert "the largest node that it may run on has 8, and the replicas that run span 1 node each" in span.obstacle
    uneven = next_span(of(16), 6, live(2), RUNNING, groups_served=True)
    assert uneven.nodes == 2
    assert uneven.obstacle is not None
    assert "do not divide evenly" in uneven.obstacle


def test_nothing_is_made_while_it_is_not_known_what_runs() -> None:
    assert next_span(of(16), 8, None, (), groups_served=None) == Span(known=False)
    assert next_span(of(16), None, None, GROUPED, groups_served=False) == Span(known=False)
    assert next_span(of(16), None, live(1), (), groups_served=None) == Span(1), "a Deployment that is there is seen"


@given(
    st.integers(1, 64),
    st.none() | st.integers(1, 64),
    st.none() | st.tuples(st.integers(1, 4), st.integers(0, 2)),
    st.booleans(),
)
def test_the_span_divides_the_gpus_and_never_moves_what_runs(
    gpus: int, largest: int | None, there: tuple[int, int] | None, served: bool
) -> None:
    deployment = of(gpus)
    body = None if there is None else workload(deployment, there[1], nodes=there[0]).body
    span = next_span(
        deployment, largest if largest and largest < gpus else None, body, (), groups_served=served or there is not None
    )
    if body is not None and there is not None and there[1] > 0:
        assert span.nodes == nodes_of(body)
    elif span.obstacle is None:
        assert gpus % span.nodes == 0
        assert largest is None or largest >= gpus or gpus // span.nodes <= largest
