"""What pods are started with so that they come to run a degree: as little as possible is restarted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shift_operator.api.schedule import Degree
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.degree import degree_flags, first_degree, live_in_all, started_with
from shift_operator.planning.workload import workload

Build = Callable[..., ShiftDeployment]
TP, SP8, SP4, SP2 = (Degree(sequence=sequence, tensor=8 // sequence) for sequence in (1, 8, 4, 2))
CANDIDATES = (SP8, SP4, SP2)


@pytest.fixture
def chat(a_deployment: Build) -> ShiftDeployment:
    return a_deployment(parallelism=parallelism(SP8))


def parallelism(degree: Degree, candidates: tuple[Degree, ...] = CANDIDATES) -> dict[str, Any]:
    return {
        "gpusPerReplica": 8,
        "degree": degree.to_body(),
        "degreeCandidates": [candidate.to_body() for candidate in candidates],
    }


def pods_of(deployment: ShiftDeployment, degree: Degree) -> dict[str, Any]:
    """The child Deployment whose pods were started with this degree."""
    return dict(workload(started_with(deployment, degree), 1).body)


def test_new_pods_start_with_what_is_wanted(chat: ShiftDeployment) -> None:
    assert first_degree(chat, SP4, None, None) == SP4


def test_a_degree_that_the_engines_can_take_live_restarts_nothing(chat: ShiftDeployment) -> None:
    child = pods_of(chat, SP8)
    assert first_degree(chat, SP4, child, frozenset({TP, SP8, SP4})) == SP8
    assert workload(started_with(chat, SP8), 1).body == child


def test_one_that_they_cannot_is_a_rollout(chat: ShiftDeployment) -> None:
    assert first_degree(chat, SP4, pods_of(chat, SP8), frozenset({TP, SP8})) == SP4


def test_while_the_engines_have_not_said_nothing_is_restarted(chat: ShiftDeployment) -> None:
    assert first_degree(chat, SP4, pods_of(chat, SP8), None) == SP8


def test_pods_started_with_what_is_no_candidate_any_more_are_replaced(a_deployment: Build) -> None:
    child = pods_of(a_deployment(parallelism=parallelism(SP8)), SP8)
    narrowed = a_deployment(parallelism=parallelism(SP4, (SP4, SP2)))
    assert first_degree(narrowed, SP4, child, frozenset({TP, SP8, SP4})) == SP4


def test_without_candidates_an_edit_is_a_rollout_as_ever(a_deployment: Build) -> None:
    edited = a_deployment(parallelism=parallelism(SP4, ()))
    child = pods_of(a_deployment(parallelism=parallelism(SP8, ())), SP8)
    assert first_degree(edited, SP4, child, frozenset({TP, SP8, SP4})) == SP4
    assert degree_flags(edited.spec) == ["--shift-degree", "4x2"]


def test_the_engine_is_told_every_candidate_the_first_one_first(chat: ShiftDeployment) -> None:
    flags = degree_flags(started_with(chat, SP4).spec)
    assert flags == ["--shift-degree", "4x2", "--shift-degree", "2x4", "--shift-degree", "8x1"]


@given(
    wanted=st.sampled_from(CANDIDATES),
    started=st.sampled_from(CANDIDATES),
    live=st.none() | st.frozensets(st.sampled_from((TP, *CANDIDATES))),
)
def test_it_settles_with_one_rollout_at_most(
    a_deployment: Build, wanted: Degree, started: Degree, live: frozenset[Degree] | None
) -> None:
    """Looked at again, with pods as they were planned, it plans the same: no rollout follows another."""
    chat = a_deployment(parallelism=parallelism(SP8))
    first = first_degree(chat, wanted, pods_of(chat, started), live)
    assert first in (started, wanted)
    after = None if live is None else live | {first}
    assert first_degree(chat, wanted, pods_of(chat, first), after) == first


def test_what_one_engine_lacks_is_not_live() -> None:
    assert live_in_all([frozenset({TP, SP8}), frozenset({TP, SP8, SP4})]) == {TP, SP8}
    assert live_in_all([frozenset({TP}), None]) is None
    assert live_in_all([]) is None
