"""autoRollback: when a rollout is given up, for what, and what counts as trying anew."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shift_operator.api import labels
from shift_operator.api.conditions import ConditionStatus, ProgressingReason
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.conditions import Counts, Verdict
from shift_operator.planning.degree import degree_of
from shift_operator.planning.rollback import (
    GivenUp,
    WentBack,
    attempt_of,
    good_revision,
    must_give_up,
    rolled_back,
    running_degree,
    standing,
    went_back,
)
from shift_operator.planning.workload import workload

Build = Callable[..., ShiftDeployment]
WORDS = "cannot load model"
FAILING = {
    "metadata": {"name": "chat-2", "labels": {labels.POD_TEMPLATE_HASH: "bad"}},
    "status": {
        "containerStatuses": [
            {"name": "engine", "image": "x:2", "state": {"terminated": {"exitCode": 1, "message": WORDS}}}
        ]
    },
}


def live(deployment: ShiftDeployment, *, stuck: bool = True, observed: int = 2, instead: Any = None) -> dict[str, Any]:
    """The child Deployment as applied, generation 2, with a status."""
    body: dict[str, Any] = copy.deepcopy(dict(workload(deployment, deployment.spec.replicas, instead=instead).body))
    owned = {"manager": labels.FIELD_MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {"f:template": {}}}}
    annotations = {**body["metadata"].get("annotations", {}), labels.REVISION: "3"}
    body["metadata"] |= {"generation": 2, "managedFields": [owned], "annotations": annotations}
    reason = "ProgressDeadlineExceeded" if stuck else "ReplicaSetUpdated"
    conditions = [{"type": "Progressing", "reason": reason}]
    return body | {"status": {"observedGeneration": observed, "updatedReplicas": 1, "conditions": conditions}}


def replica_set(deployment: ShiftDeployment, revision: str = "good") -> dict[str, Any]:
    template = copy.deepcopy(workload(deployment, 1).body["spec"]["template"])
    template["metadata"] |= {"creationTimestamp": None}
    template["metadata"]["labels"][labels.POD_TEMPLATE_HASH] = revision
    metadata = {"labels": {labels.POD_TEMPLATE_HASH: revision}, "annotations": {labels.REVISION: "2"}}
    return {"metadata": metadata, "spec": {"template": template}}


@pytest.fixture
def old(a_deployment: Build) -> ShiftDeployment:
    return a_deployment(engine={"image": "x:1"}, rollout={"progressDeadlineSeconds": 60})


@pytest.fixture
def new(a_deployment: Build) -> ShiftDeployment:
    return a_deployment(engine={"image": "x:2"}, rollout={"progressDeadlineSeconds": 60})


def given_up_for(old: ShiftDeployment, new: ShiftDeployment) -> WentBack:
    found = went_back(new, live(new), replica_set(old), [FAILING])
    assert found is not None
    return found


def test_it_goes_back_to_the_good_revisions_pods_and_says_why(old: ShiftDeployment, new: ShiftDeployment) -> None:
    found = given_up_for(old, new)
    assert found.template == workload(old, 1).body["spec"]["template"]
    assert found.given_up.revision == "good"
    message = (
        "went back from revision 3 (x:2) to revision 2 (x:1): no replica became ready for 60 s; "
        f"pod chat-2: the engine ended (exit code 1): {WORDS}"
    )
    assert found.given_up.message == message
    after = live(new, instead=found)
    assert after["spec"]["template"] == found.template
    assert rolled_back(new, after) == Verdict(ConditionStatus.FALSE, ProgressingReason.ROLLED_BACK, message)
    assert standing(new, after) == found.given_up


def test_the_engines_image_is_named_beside_sidecars(old: ShiftDeployment, new: ShiftDeployment) -> None:
    there, before = live(new), replica_set(old)
    for template in (there["spec"]["template"], before["spec"]["template"]):
        template["spec"]["containers"] = [{"name": "proxy", "image": "proxy:1"}, *template["spec"]["containers"]]
    found = went_back(new, there, before, [])
    assert found is not None
    assert found.given_up.message.startswith("went back from revision 3 (x:2) to revision 2 (x:1): ")


def test_it_is_given_up_only_when_this_rollout_is_stuck(
    a_deployment: Build, old: ShiftDeployment, new: ShiftDeployment
) -> None:
    def gives_up(spec: ShiftDeployment, there: dict[str, Any]) -> bool:
        return must_give_up(spec, workload(spec, 1), there)

    assert gives_up(new, live(new))
    assert not gives_up(new, live(new, stuck=False))
    assert not gives_up(new, live(new, observed=1)), "the deadline was another rollout's"
    assert not gives_up(old, live(new)), "the spec was corrected meanwhile"
    kept = a_deployment(engine={"image": "x:2"}, rollout={"autoRollback": False})
    assert not gives_up(kept, live(kept))
    assert went_back(old, live(old), replica_set(old), []) is None, "it is that revision that is stuck"


@pytest.mark.parametrize(
    ("edit", "tries_anew"),
    [
        ({"replicas": 7}, False),
        ({"shift": {"thresholdTokens": 700}}, False),
        ({"suspend": True}, False),
        ({"rollout": {"progressDeadlineSeconds": 60, "capacityDeadlineSeconds": 5}}, False),
        ({"engine": {"image": "x:3"}}, True),
        ({"rollout": {"progressDeadlineSeconds": 120}}, True),
        ({"rollout": {"progressDeadlineSeconds": 60, "strategy": "Recreate"}}, True),
        ({"rollout": {"progressDeadlineSeconds": 60, "autoRollback": False}}, True),
    ],
)
def test_what_makes_other_pods_or_other_rollouts_tries_anew(
    a_deployment: Build, old: ShiftDeployment, new: ShiftDeployment, edit: dict[str, Any], *, tries_anew: bool
) -> None:
    after = live(new, instead=given_up_for(old, new))
    spec: dict[str, Any] = {"engine": {"image": "x:2"}, "rollout": {"progressDeadlineSeconds": 60}} | edit
    edited = a_deployment(**spec)
    assert (standing(edited, after) is None) is tries_anew
    assert labels.ROLLED_BACK not in workload(edited, 1).body["metadata"].get("annotations", {})


def test_after_it_the_degree_is_that_of_the_pods_that_run(a_deployment: Build, old: ShiftDeployment) -> None:
    other = a_deployment(
        engine={"image": "x:2"}, parallelism={"gpusPerReplica": 2, "degree": {"sequence": 1, "tensor": 2}}
    )
    assert str(running_degree(other, live(other))) == "1x2"
    found = given_up_for(old, other)
    assert str(degree_of(found.template)) == "2x1"
    assert str(running_degree(other, live(other, instead=found))) == "2x1"
    assert str(running_degree(other, None)) == "1x2"


@pytest.mark.parametrize("args", [None, [], ["--shift-degree"], ["--shift-degree", "2"], ["--shift-degree", "0x1"]])
def test_pods_that_do_not_say_their_degree_have_none(args: list[str] | None) -> None:
    assert degree_of({"spec": {"containers": [{"name": "engine", "args": args}]}}) is None


@given(st.none() | st.text() | st.dictionaries(st.sampled_from(["attempt", "revision"]), st.text()).map(str))
def test_an_annotation_that_others_wrote_is_nothing(text: str | None) -> None:
    annotations = {} if text is None else {labels.ROLLED_BACK: text}
    assert GivenUp.of({"metadata": {"annotations": annotations}}) is None
    assert GivenUp.of(None) is None


def test_an_attempt_has_one_name(new: ShiftDeployment) -> None:
    assert attempt_of(new) == attempt_of(ShiftDeployment.from_body(new.to_body()))
    given_up = GivenUp("a", "b", 'went "back"')
    assert GivenUp.of({"metadata": {"annotations": {labels.ROLLED_BACK: given_up.to_annotation()}}}) == given_up


def test_a_revision_is_good_once_every_replica_of_it_serves() -> None:
    def pod(revision: str, **metadata: Any) -> dict[str, Any]:
        return {"metadata": {"labels": {labels.POD_TEMPLATE_HASH: revision}, **metadata}, "status": {}}

    whole = Counts(replicas=2, ready=2, updated=2, available=2, current=True)
    ending = pod("old", deletionTimestamp="2026-01-02T03:04:05Z")
    refused = pod("old") | {"status": {"phase": "Failed"}}
    assert good_revision(2, whole, [pod("new"), ending, pod("new"), refused]) == "new"
    assert good_revision(2, whole, [pod("new"), pod("old")]) is None
    assert good_revision(3, whole, [pod("new"), pod("new")]) is None
    assert good_revision(0, Counts(current=True), []) is None, "no replica proves nothing"
