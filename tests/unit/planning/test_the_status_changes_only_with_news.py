"""The status: made of what was observed, with old times where nothing changed, and written only when it has news."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from shift_operator.api import labels
from shift_operator.api.schedule import Schedule
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.api.signals import Known, SizeBucket, UnknownWhy, nothing_known
from shift_operator.api.status import DecisionOutcome, DecisionRecord, ShiftDeploymentStatus
from shift_operator.planning.plan import workload
from shift_operator.planning.rollback import GivenUp, attempt_of
from shift_operator.planning.schedule import next_schedule
from shift_operator.planning.status import Observed, is_news, status_of

Build = Callable[..., ShiftDeployment]
NOW = datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=UTC)
WORKLOAD: dict[str, Any] = {
    "metadata": {"generation": 2},
    "status": {
        "observedGeneration": 2, "replicas": 1, "readyReplicas": 1, "updatedReplicas": 1, "availableReplicas": 1,
    },
}  # fmt: skip
POD: dict[str, Any] = {
    "metadata": {"name": "chat-1"},
    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
}
PENDING = DecisionRecord(
    time=NOW,
    kind="Threshold",
    from_="256",
    to="512",
    reason="LessStepTime",
    outcome=DecisionOutcome.PENDING,
    message="",
)


@dataclass(frozen=True)
class Report:
    pod: str = "chat-1"
    generation: int = 1
    threshold_tokens: int | None = 256
    ranks_confirmed: int = 2
    ranks: int = 2
    problem: str | None = None


def observed(deployment: ShiftDeployment, **changes: Any) -> Observed:
    base = Observed(
        deployment,
        next_schedule(deployment.spec, None),
        deployment.spec.replicas,
        workload=WORKLOAD,
        pods=[POD],
        reports=[Report()],
        signals=nothing_known(UnknownWhy.ABSENT, ""),
        decisions=[PENDING],
    )
    return replace(base, **changes)


def seconds_later(
    deployment: ShiftDeployment, status: ShiftDeploymentStatus, seconds: int, **changes: Any
) -> ShiftDeploymentStatus:
    """The status some seconds after `status` was written, as the next reconcile sees it."""
    stored = type(status).from_body(status.to_body())
    later = deployment.model_copy(update={"status": stored})
    return status_of(observed(later, **changes), NOW + timedelta(seconds=seconds))


def test_a_serving_deployment(a_deployment: Build) -> None:
    status = status_of(observed(a_deployment()), NOW).to_body()
    assert {c["type"]: c["status"] for c in status["conditions"]} == {
        "Available": "True",
        "Progressing": "True",
        "Degraded": "False",
        "MetricsAvailable": "False",
        "ConfigurationApplied": "True",
        "CapacityAvailable": "True",
        "PolicyApplied": "Unknown",
        "Conflict": "False",
    }
    assert status["observedGeneration"] == 3
    assert (status["ready"], status["degree"]) == ("1/1", "2x1")
    assert status["selector"] == "app.kubernetes.io/name=shift-engine,shiftparallel.io/deployment=chat"
    assert status["shift"] == {
        "desired": {"thresholdTokens": 256, "generation": 1},
        "applied": {"thresholdTokens": 256, "generation": 1, "pods": 1, "ranks": 2},
        "lastChangeTime": "2026-01-02T03:04:05Z",
    }
    assert status["schedule"]["generation"] == 1
    assert status["decisions"][0]["outcome"] == "Applied"


def test_a_moment_later_nothing_is_new(a_deployment: Build) -> None:
    before = status_of(observed(a_deployment()), NOW)
    after = seconds_later(a_deployment(), before, 60)
    assert after == type(before).from_body(before.to_body())
    assert not is_news(before, after)


def test_numbers_that_move_at_every_look_are_no_news(a_deployment: Build) -> None:
    def at(steps: float, seconds: float) -> Any:
        sizes = Known((SizeBucket(0, 8.0, steps),), NOW.timestamp() - seconds, "shift_batched_tokens_bucket")
        return replace(nothing_known(UnknownWhy.ABSENT, ""), step_sizes=sizes)

    before = status_of(observed(a_deployment(), signals=at(1000, 2)), NOW)
    after = seconds_later(a_deployment(), before, 15, signals=at(1200, 9))
    assert before.signals[0].to_body() == {
        "name": "stepsObserved", "value": 1000, "ageSeconds": 2, "source": "shift_batched_tokens_bucket",
    }  # fmt: skip
    assert after != before
    assert not is_news(before, after)
    lost = seconds_later(a_deployment(), before, 15, signals=nothing_known(UnknownWhy.ABSENT, ""))
    assert is_news(before, lost)


def test_a_new_generation_is_pending_until_every_pod_runs_it(a_deployment: Build) -> None:
    before = status_of(observed(a_deployment(), decisions=[]), NOW)
    moved = next_schedule(a_deployment().spec, before.schedule, 512)
    pending = seconds_later(a_deployment(), before, 15, schedule=moved)
    assert pending.shift is not None
    assert pending.shift.applied is not None
    assert (pending.shift.desired.threshold_tokens, pending.shift.applied.threshold_tokens) == (512, 256)
    assert (pending.shift.desired.generation, pending.shift.applied.pods) == (2, 0)
    assert pending.shift.last_change_time == (NOW + timedelta(seconds=15)).replace(microsecond=0)
    assert pending.decisions[0].outcome == "Pending"

    report = Report(generation=2, threshold_tokens=512)
    confirmed = seconds_later(a_deployment(), pending, 17, schedule=moved, reports=[report])
    assert confirmed.shift is not None
    assert confirmed.shift.last_change_time == pending.shift.last_change_time
    assert confirmed.decisions[0].outcome == "Applied"


def test_replicas_are_pending_until_as_many_serve(a_deployment: Build) -> None:
    wish = PENDING.model_copy(update={"kind": "Replicas", "from_": "1", "to": "2"})
    assert status_of(observed(a_deployment(), replicas=2, decisions=[wish]), NOW).decisions[0].outcome == "Pending"
    two = {"replicas": 2, "readyReplicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
    there = {**WORKLOAD, "status": {**WORKLOAD["status"], **two}}
    served = observed(a_deployment(), replicas=2, decisions=[wish], workload=there, reports=[])
    assert status_of(served, NOW).decisions[0].outcome == "Applied", "whatever the schedule is doing"


def test_a_degree_whose_rollout_went_back_is_told_so_and_the_replicas_have_come(a_deployment: Build) -> None:
    degree = PENDING.model_copy(update={"kind": "Degree", "from_": "2x1", "to": "1x2"})
    replicas = PENDING.model_copy(update={"kind": "Replicas", "from_": "0", "to": "1"})
    given_up = GivenUp(attempt_of(a_deployment()), "good", "went back").to_annotation()
    metadata = {**WORKLOAD["metadata"], "annotations": {labels.ROLLED_BACK: given_up}}
    there = {**WORKLOAD, "metadata": metadata, "spec": workload(a_deployment(), 1).body["spec"]}
    went_back = observed(a_deployment(), decisions=[degree, replicas], workload=there)
    assert [record.outcome for record in status_of(went_back, NOW).decisions] == ["RolledBack", "Applied"]
    stays = [degree.model_copy(update={"outcome": "RolledBack"})]
    mended = status_of(observed(a_deployment(), decisions=stays), NOW)
    assert [record.outcome for record in mended.decisions] == ["RolledBack"]


def test_an_engine_that_gave_no_answer_is_unknown_not_zero(a_deployment: Build) -> None:
    silent = Report(generation=0, threshold_tokens=None, ranks=0, ranks_confirmed=0, problem="no answer")
    status = status_of(observed(a_deployment(), reports=[silent]), NOW)
    assert status.shift is not None
    assert status.shift.applied is None


def test_the_last_ten_decisions_are_kept(a_deployment: Build) -> None:
    many = [PENDING.model_copy(update={"to": str(n)}) for n in range(25)]
    status = status_of(observed(a_deployment(), decisions=many), NOW)
    assert [record.to for record in status.decisions] == [str(n) for n in range(15, 25)]


def test_before_anything_exists_all_is_unknown_or_zero(a_deployment: Build) -> None:
    deployment = a_deployment()
    schedule = Schedule.model_validate(next_schedule(deployment.spec, None))
    status = status_of(Observed(deployment, schedule, 1), NOW)
    available = status.condition("Available")
    assert available is not None
    assert available.status == "Unknown"
    assert (status.ready, status.replicas) == ("0/1", 0)
    assert is_news(None, status)
