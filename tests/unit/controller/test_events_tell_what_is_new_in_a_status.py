"""Events come from the difference of two statuses, so a restarted operator tells nothing twice."""

from datetime import UTC, datetime

import pytest
from shift_operator.api.conditions import Condition, ConditionStatus
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.api.status import CapacityRelease, DecisionRecord, DesiredShift, ShiftDeploymentStatus, ShiftStatus
from shift_operator.controller.events import EventReason, child_repaired, events_between
from shift_operator.planning.difference import Difference
from shift_operator.planning.manifest import Manifest, child

T0 = datetime(2026, 11, 24, 11, tzinfo=UTC)


def a_condition(type_: str, status: ConditionStatus, reason: str, message: str = "") -> Condition:
    return Condition(type=type_, status=status, reason=reason, message=message, last_transition_time=T0)


def a_status(
    *conditions: Condition, generation: int = 1, decisions: tuple[DecisionRecord, ...] = ()
) -> ShiftDeploymentStatus:
    shift = ShiftStatus(desired=DesiredShift(threshold_tokens=512, generation=generation))
    return ShiftDeploymentStatus(shift=shift, conditions=conditions, decisions=decisions)


def a_record(before: int, after: int) -> DecisionRecord:
    return DecisionRecord(
        time=T0,
        kind="Threshold",
        from_=str(before),
        to=str(after),
        reason="LessStepTime",
        outcome="Pending",
        message="gain 7 %",
    )


CONFIRMED = a_condition("ConfigurationApplied", ConditionStatus.TRUE, "Confirmed", "2 of 2 pods run generation 14")
WAITING = a_condition("ConfigurationApplied", ConditionStatus.FALSE, "WaitingForPods", "1 of 2 pods run generation 14")


def notes(before: ShiftDeploymentStatus | None, after: ShiftDeploymentStatus) -> list[tuple[str, str]]:
    return [(event.reason, event.note) for event in events_between(before, after)]


def test_a_decision_that_moved_the_threshold_is_told_with_its_evidence() -> None:
    after = a_status(decisions=(a_record(512, 768), a_record(768, 768).model_copy(update={"outcome": "Held"})))
    assert notes(a_status(), after) == [
        (EventReason.THRESHOLD_CHANGED, "threshold 512 -> 768: LessStepTime (gain 7 %)")
    ]
    assert notes(after, after) == []


@pytest.mark.parametrize(
    ("kind", "reason"), [("Degree", EventReason.DEGREE_CHANGED), ("Replicas", EventReason.REPLICAS_CHANGED)]
)
def test_a_decision_on_another_knob_is_told_with_its_limit(kind: str, reason: EventReason) -> None:
    record = a_record(1, 2).model_copy(update={"kind": kind, "limit": "ClusterBudget"})
    note = f"{kind.lower()} 1 -> 2: LessStepTime, limited by ClusterBudget (gain 7 %)"
    assert notes(a_status(), a_status(decisions=(record,))) == [(reason, note)]


def test_what_was_only_advised_is_no_event() -> None:
    advised = a_record(512, 768).model_copy(update={"outcome": "Advised"})
    assert notes(a_status(), a_status(decisions=(advised,))) == []


def test_a_schedule_that_every_pod_runs_is_told_once_per_generation() -> None:
    told = [(EventReason.CONFIGURATION_APPLIED, "2 of 2 pods run generation 14")]
    assert notes(a_status(WAITING), a_status(CONFIRMED)) == told
    assert notes(a_status(CONFIRMED), a_status(CONFIRMED)) == []
    assert notes(a_status(CONFIRMED), a_status(CONFIRMED, generation=2)) == told
    assert notes(None, a_status(WAITING)) == []


def test_replicas_that_are_released_are_told_once_per_try() -> None:
    def released(tries: int) -> ShiftDeploymentStatus:
        condition = a_condition(
            "CapacityAvailable", ConditionStatus.FALSE, "Released", f"asked {tries} times, at 12:00"
        )
        release = CapacityRelease(replicas=1, tries=tries, retry_time=T0, attempt="a", message="pod b: 0/1 nodes")
        return a_status(condition).model_copy(update={"release": release})

    note = (
        "replicas that found no node in time are not asked for until the next try, or until GPUs are free; pod b: 0/1 "
        "nodes"
    )
    assert notes(a_status(), released(1)) == [(EventReason.RELEASED, note)]
    assert notes(released(1), released(1)) == []
    assert notes(released(1), released(2)) == [(EventReason.RELEASED, note)]
    retrying = a_status(a_condition("CapacityAvailable", ConditionStatus.FALSE, "Unschedulable"))
    assert notes(released(1), retrying.model_copy(update={"release": released(1).release})) == []


def test_an_engine_that_failed_is_told_in_its_words_and_again_when_they_change() -> None:
    def failing(words: str) -> ShiftDeploymentStatus:
        return a_status(a_condition("Degraded", ConditionStatus.TRUE, "EngineFailed", words))

    fine = a_status(a_condition("Degraded", ConditionStatus.FALSE, "AsExpected"))
    assert notes(fine, failing("no model")) == [(EventReason.ENGINE_FAILED, "no model")]
    assert notes(failing("no model"), failing("no model")) == []
    assert notes(failing("no model"), failing("no memory")) == [(EventReason.ENGINE_FAILED, "no memory")]
    assert notes(fine, a_status(a_condition("Degraded", ConditionStatus.TRUE, "NameTaken", "theirs"))) == []


def test_a_pod_that_its_node_refuses_is_told() -> None:
    words = "pod a: UnexpectedAdmissionError on node b: no GPU"
    refused = a_status(a_condition("Degraded", ConditionStatus.TRUE, "PodFailed", words))
    assert notes(a_status(), refused) == [(EventReason.POD_FAILED, words)]
    assert notes(refused, refused) == []


def test_a_rollback_is_told_once() -> None:
    def stuck(reason: str) -> ShiftDeploymentStatus:
        return a_status(a_condition("Progressing", ConditionStatus.FALSE, reason, "went back from 2 to 1"))

    told = [(EventReason.ROLLED_BACK, "went back from 2 to 1")]
    assert notes(a_status(), stuck("RolledBack")) == told
    assert notes(stuck("RolledBack"), stuck("RolledBack")) == []
    assert notes(a_status(), stuck("ProgressDeadlineExceeded")) == []


def a_service() -> Manifest:
    deployment = ShiftDeployment.from_body(
        {
            "metadata": {"namespace": "prod", "name": "chat"},
            "spec": {
                "model": {"uri": "file:///models/tiny"},
                "engine": {"image": "engine:1"},
                "parallelism": {"gpusPerReplica": 2, "degree": {"sequence": 2, "tensor": 1}},
            },
        }
    )
    return child(deployment, "v1", "Service", "chat", {})


@pytest.mark.parametrize(
    ("found", "note"),
    [
        ([Difference("object", "is missing")], "Service chat had been deleted; created it again"),
        (
            [Difference("spec.type", "was changed", "kubectl-edit"), Difference("spec.ports", "was changed", "helm")],
            "Service chat had been changed by helm and kubectl-edit in spec.type, spec.ports; applied it again",
        ),
        (
            [Difference(f"spec.{name}", "was changed") for name in "abcde"],
            "Service chat had been changed by someone in spec.a, spec.b, spec.c and 2 more; applied it again",
        ),
    ],
)
def test_a_repair_names_who_changed_what(found: list[Difference], note: str) -> None:
    assert child_repaired(a_service(), found).note == note
