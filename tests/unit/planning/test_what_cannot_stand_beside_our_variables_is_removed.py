"""A value beside our source of a variable, or another source beside our value: the API server refuses both together."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.manifest import Body
from shift_operator.planning.repair import removals
from shift_operator.planning.service import service
from shift_operator.planning.workload import workload

Build = Callable[..., ShiftDeployment]
SECRET = {"secretKeyRef": {"name": "theirs", "key": "k"}}
ENV = "/spec/template/spec/containers/0/env"


@pytest.fixture
def chat(a_deployment: Build) -> ShiftDeployment:
    """With the variables POD_IP, POD_NAME, POD_NAMESPACE from fields, SHIFT_TERMINATION_LOG and A by value."""
    return a_deployment(engine={"env": [{"name": "A", "value": "1"}]})


def live_with(deployment: ShiftDeployment, *variables: dict[str, Any]) -> Body:
    """The Deployment as applied, with these variables as someone else left them."""
    live: dict[str, Any] = copy.deepcopy(dict(workload(deployment, 1).body))
    env = live["spec"]["template"]["spec"]["containers"][0]["env"]
    for variable in variables:
        index = next((n for n, known in enumerate(env) if known["name"] == variable["name"]), len(env))
        env[index : index + 1] = [variable]
    return live


def removed(index: int, name: str, field: str) -> list[dict[str, str]]:
    """A field of the variable of this name, which must be where it was seen."""
    return [
        {"op": "test", "path": f"{ENV}/{index}/name", "value": name},
        {"op": "remove", "path": f"{ENV}/{index}/{field}"},
    ]


def test_a_value_where_ours_has_a_source(chat: ShiftDeployment) -> None:
    live = live_with(chat, {"name": "POD_NAME", "value": "x"}, {"name": "A", "value": "2"})
    assert removals(workload(chat, 1), live) == removed(1, "POD_NAME", "value")


def test_a_source_where_ours_has_a_value(chat: ShiftDeployment) -> None:
    live = live_with(chat, {"name": "SHIFT_TERMINATION_LOG", "valueFrom": SECRET}, {"name": "A", "valueFrom": SECRET})
    found = removals(workload(chat, 1), live)
    assert found == [*removed(3, "SHIFT_TERMINATION_LOG", "valueFrom"), *removed(4, "A", "valueFrom")]


def test_a_source_of_another_kind(chat: ShiftDeployment) -> None:
    live = live_with(chat, {"name": "POD_NAME", "valueFrom": SECRET})
    assert removals(workload(chat, 1), live) == removed(1, "POD_NAME", "valueFrom")


def test_what_an_apply_undoes_by_itself_is_left_to_it(chat: ShiftDeployment) -> None:
    other = {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.hostIP"}}
    live = live_with(chat, {"name": "POD_IP", "valueFrom": other}, {"name": "THEIRS", "valueFrom": SECRET})
    assert removals(workload(chat, 1), live) == []


def test_children_without_pods_have_no_variables(chat: ShiftDeployment) -> None:
    assert removals(service(chat), service(chat).body) == []
