"""Rollouts on a node of 8 GPUs: beside the old replicas while there is room, in their places where there is none."""

from collections.abc import Callable
from typing import Any

import pytest

ADeployment = Callable[..., dict[str, Any]]
SURGE = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
IN_PLACE = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}


def version(number: int) -> dict[str, Any]:
    """Changes the pods and nothing else."""
    return {"image": "example.com/fake-engine:1", "env": [{"name": "VERSION", "value": str(number)}]}


def serving(place: Any, replicas: int, number: int) -> Callable[[], bool]:
    """Whether exactly these replicas of this version are there, and all serve."""

    def holds() -> bool:
        pods = place.pods()
        versions = [{e["name"]: e.get("value") for e in p["spec"]["containers"][0]["env"]}["VERSION"] for p in pods]
        return versions == [str(number)] * replicas and place.has("Progressing", "True", "RolloutComplete")()

    return holds


@pytest.fixture
def alone(cluster: Any, place: Any) -> Any:
    """The place, once no pod of another test holds GPUs."""

    def others() -> bool:
        left = cluster.kubectl("get", "pods", "--all-namespaces", "--output", "name").split()
        return not left

    place.eventually(others)
    return place


def test_auto_surges_into_free_gpus_and_else_goes_in_place(alone: Any, a_deployment: ADeployment) -> None:
    alone.apply(a_deployment(replicas=2, engine=version(1)))
    alone.eventually(serving(alone, 2, 1))
    assert alone.get("deployment", "chat")["spec"]["strategy"] == SURGE
    with alone.watching() as seen:
        alone.apply(a_deployment(replicas=2, engine=version(2)))
        alone.eventually(serving(alone, 2, 2))
    assert seen.fewest_ready >= 2
    assert seen.most_asked == 3

    # 4 replicas of 2 GPUs leave none.
    alone.apply(a_deployment(replicas=4, engine=version(2)))
    alone.eventually(serving(alone, 4, 2))
    with alone.watching() as seen:
        alone.apply(a_deployment(replicas=4, engine=version(3)))
        alone.eventually(lambda: alone.get("deployment", "chat")["spec"]["strategy"] == IN_PLACE)
        alone.eventually(serving(alone, 4, 3))
    assert seen.fewest_ready >= 3
    assert seen.most_asked <= 4
    # At rest it is ready for the next one.
    alone.eventually(lambda: alone.get("deployment", "chat")["spec"]["strategy"] == SURGE)


def test_a_surge_that_finds_no_node_goes_on_in_place(alone: Any, a_deployment: ADeployment) -> None:
    """As it is when someone takes the GPUs between our look at the nodes and the scheduler's."""
    rollout = {"capacityDeadlineSeconds": 2, "strategy": "Surge"}
    alone.apply(a_deployment(replicas=4, engine=version(1), rollout=rollout))
    alone.eventually(serving(alone, 4, 1))
    alone.apply(a_deployment(replicas=4, engine=version(2), rollout=rollout))
    alone.eventually(alone.has("CapacityAvailable", "False", "Unschedulable"))
    alone.apply(a_deployment(replicas=4, engine=version(2), rollout=rollout | {"strategy": "Auto"}))
    alone.eventually(serving(alone, 4, 2))


def test_recreate_ends_all_first(alone: Any, a_deployment: ADeployment) -> None:
    alone.apply(a_deployment(replicas=2, engine=version(1), rollout={"strategy": "Recreate"}))
    alone.eventually(serving(alone, 2, 1))
    assert alone.get("deployment", "chat")["spec"]["strategy"] == {"type": "Recreate"}
    alone.apply(a_deployment(replicas=2, engine=version(2), rollout={"strategy": "Recreate"}))
    alone.eventually(serving(alone, 2, 2))
    alone.apply(a_deployment(replicas=2, engine=version(2)))
    alone.eventually(lambda: alone.get("deployment", "chat")["spec"]["strategy"] == SURGE)
