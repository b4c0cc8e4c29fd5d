"""Whose number counts: spec.replicas, or in mode Managed the decision within the user's bounds, and before one exists
what runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.replicas import desired_replicas, wanted_replicas

Build = Callable[..., ShiftDeployment]

MANAGED = {"mode": "Managed", "minReplicas": 2, "maxReplicas": 6}
NEVER = None


def running(replicas: int) -> dict[str, Any]:
    return {"spec": {"replicas": replicas}}


def managed(build: Build, *, status: int | None = None, **spec: Any) -> ShiftDeployment:
    before = {} if status is None else {"status": {"desiredReplicas": status}}
    return build(**{"scaling": MANAGED, "replicas": 3} | spec, **before)


@pytest.mark.parametrize("mode", ["Fixed", "External"])
def test_outside_managed_the_number_is_the_specs(a_deployment: Build, mode: str) -> None:
    deployment = a_deployment(replicas=3, scaling={"mode": mode}, status={"desiredReplicas": 5})
    assert wanted_replicas(deployment, 5, running(5)) == 3
    assert desired_replicas(deployment, 3) is None


def test_managed_follows_the_decision_and_not_the_spec(a_deployment: Build) -> None:
    assert wanted_replicas(managed(a_deployment, status=4), 5, running(4)) == 5


@pytest.mark.parametrize(("decided", "wanted"), [(0, 2), (1, 2), (2, 2), (6, 6), (7, 6)])
def test_a_decision_never_leaves_the_bounds(a_deployment: Build, decided: int, wanted: int) -> None:
    assert wanted_replicas(managed(a_deployment), decided, None) == wanted


def test_idle_may_go_below_the_minimum(a_deployment: Build) -> None:
    idle = managed(a_deployment, scaling=MANAGED | {"idle": {"replicas": 0}})
    assert wanted_replicas(idle, 0, running(2)) == 0


def test_before_a_decision_what_runs_stays(a_deployment: Build) -> None:
    assert wanted_replicas(managed(a_deployment), NEVER, running(5)) == 5


def test_a_restart_of_the_operator_moves_nothing(a_deployment: Build) -> None:
    """Also where somebody scaled the child by hand in the meantime: that is repaired, as ever."""
    assert wanted_replicas(managed(a_deployment, status=4), NEVER, running(1)) == 4


@pytest.mark.parametrize(("replicas", "wanted"), [(0, 2), (1, 2), (3, 3), (9, 6)])
def test_a_new_deployment_starts_with_the_spec_within_the_bounds(
    a_deployment: Build, replicas: int, wanted: int
) -> None:
    assert wanted_replicas(managed(a_deployment, replicas=replicas), NEVER, None) == wanted


def test_a_new_deployment_does_not_start_idle(a_deployment: Build) -> None:
    idle = managed(a_deployment, replicas=0, scaling=MANAGED | {"idle": {"replicas": 0}})
    assert wanted_replicas(idle, NEVER, None) == 2


def test_a_suspended_one_comes_back_with_what_it_had(a_deployment: Build) -> None:
    suspended = managed(a_deployment, status=5, suspend=True)
    wanted = wanted_replicas(suspended, 5, running(5))
    assert (wanted, desired_replicas(suspended, wanted)) == (0, 5)
    assert wanted_replicas(managed(a_deployment, status=5), NEVER, running(0)) == 5


@given(
    st.none() | st.integers(0, 2000),
    st.none() | st.integers(0, 2000),
    st.none() | st.integers(0, 2000),
    st.integers(0, 1000),
)
def test_whatever_was_decided_ran_or_is_asked_for_the_bounds_hold(
    a_deployment: Build, decided: int | None, status: int | None, live: int | None, spec: int
) -> None:
    deployment = managed(a_deployment, status=status, replicas=spec)
    wanted = wanted_replicas(deployment, decided, None if live is None else running(live))
    assert 2 <= wanted <= 6
    assert desired_replicas(deployment, wanted) == wanted
