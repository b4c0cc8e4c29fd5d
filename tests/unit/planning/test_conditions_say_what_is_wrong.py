"""The conditions: each situation by its reason, in the words of whoever knows the cause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from shift_operator.api.conditions import (
    AvailableReason,
    ConditionStatus,
    ConfigurationReason,
    DegradedReason,
    MetricsReason,
    ProgressingReason,
)
from shift_operator.api.schedule import Degree
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.api.signals import Known, Signals, Span, Unknown, UnknownWhy, nothing_known
from shift_operator.planning.conditions import (
    Counts,
    Problem,
    Verdict,
    available,
    configuration_applied,
    degraded,
    metrics_available,
    progressing,
)
from shift_operator.planning.schedule import next_schedule

Build = Callable[..., ShiftDeployment]
TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN


@dataclass(frozen=True)
class Report:
    """As the controller's: what one engine answered."""

    pod: str
    generation: int = 0
    threshold_tokens: int | None = None
    ranks_confirmed: int = 0
    ranks: int = 0
    problem: str | None = None


def counts(replicas: int, *, ready: int = 0, updated: int | None = None, **more: bool) -> Counts:
    new = replicas if updated is None else updated
    return Counts(
        replicas=replicas,
        ready=ready,
        updated=new,
        available=ready,
        current=more.get("current", True),
        stuck=more.get("stuck", False),
    )


def pod(name: str = "chat-1", *, phase: dict[str, Any] | None = None, **container: Any) -> dict[str, Any]:
    status = {"containerStatuses": [{"name": "engine", "image": "x:1", **container}]} if container else {}
    return {"metadata": {"name": name}, "status": status | (phase or {})}


def told_by(*pods: dict[str, Any], missing: bool = True) -> Verdict:
    """Degraded, of these pods alone."""
    return degraded([], pods, missing=missing)


def unschedulable(message: str) -> dict[str, Any]:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    }
    return pod(phase={"conditions": [condition]})


@pytest.mark.parametrize(
    ("ready", "status", "reason"),
    [(2, TRUE, AvailableReason.REPLICAS_READY), (1, FALSE, AvailableReason.REPLICAS_NOT_READY)],
)
def test_available_while_no_replica_is_missing(
    a_deployment: Build, ready: int, status: ConditionStatus, reason: AvailableReason
) -> None:
    verdict = available(a_deployment(replicas=2), 2, counts(2, ready=ready))
    assert verdict == Verdict(status, reason, f"{ready} of 2 replicas serve")


def test_available_while_no_more_than_allowed_are_missing(a_deployment: Build) -> None:
    deployment = a_deployment(replicas=4, rollout={"maxUnavailable": 1})
    assert available(deployment, 4, counts(4, ready=3)).status is TRUE
    assert available(deployment, 4, counts(4, ready=2)).status is FALSE


def test_where_the_spec_sets_no_bound_the_running_rollouts_counts(a_deployment: Build) -> None:
    in_place = replace(counts(4, ready=3), may_miss=1)
    assert available(a_deployment(replicas=4), 4, in_place).status is TRUE
    assert available(a_deployment(replicas=4, rollout={"maxUnavailable": 0}), 4, in_place).status is FALSE


def test_nothing_is_available_where_nothing_serves(a_deployment: Build) -> None:
    assert available(a_deployment(rollout={"maxUnavailable": 1}), 1, counts(1)).status is FALSE
    assert available(a_deployment(), 1, Counts()).reason is AvailableReason.NOT_OBSERVED
    assert available(a_deployment(suspend=True), 0, counts(0)).reason is AvailableReason.SUSPENDED
    assert available(a_deployment(replicas=0), 0, counts(0)).reason is AvailableReason.SCALED_TO_ZERO
    idle = available(a_deployment(scaling={"mode": "Managed"}), 0, counts(0))
    assert idle.message == "nobody asks, and scaling.idle.replicas is 0"


def test_progressing(a_deployment: Build) -> None:
    deployment = a_deployment(replicas=2)
    assert progressing(deployment, 2, counts(2, ready=2), []).reason is ProgressingReason.ROLLOUT_COMPLETE
    rolling = progressing(deployment, 2, counts(3, ready=2, updated=1), [])
    assert rolling == Verdict(TRUE, ProgressingReason.ROLLING_OUT, "1 of 2 replicas have the newest template, 2 serve")
    assert progressing(deployment, 2, counts(2, ready=2, current=False), []).reason is ProgressingReason.ROLLING_OUT


def test_a_pod_without_node_is_told_in_the_schedulers_words(a_deployment: Build) -> None:
    waiting = unschedulable("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
    words = "pod chat-1: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    assert progressing(a_deployment(), 1, counts(1), [waiting]) == Verdict(
        TRUE, ProgressingReason.WAITING_FOR_NODE, words
    )
    stuck = progressing(a_deployment(), 1, counts(1, stuck=True), [waiting])
    assert stuck.status is FALSE
    assert stuck.reason is ProgressingReason.PROGRESS_DEADLINE_EXCEEDED
    assert stuck.message == f"no replica became ready for 1800 s; {words}"


ENDED = {"terminated": {"exitCode": 1, "reason": "Error", "message": "model /models/nope has no config.json\n"}}
ENGINE_WORDS = "pod chat-1: the engine ended (exit code 1): model /models/nope has no config.json"


@pytest.mark.parametrize(
    ("container", "reason", "message"),
    [
        (
            {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ENDED},
            DegradedReason.ENGINE_FAILED,
            ENGINE_WORDS,
        ),
        ({"state": {"running": {}}, "lastState": ENDED}, DegradedReason.ENGINE_FAILED, ENGINE_WORDS),
        ({"state": ENDED}, DegradedReason.ENGINE_FAILED, ENGINE_WORDS),
        (
            {"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}},
            DegradedReason.ENGINE_FAILED,
            "pod chat-1: the engine ended (killed for memory) and left no message",
        ),
        (
            {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}},
            DegradedReason.IMAGE_UNAVAILABLE,
            "pod chat-1: image x:1: not found",
        ),
        (
            {"state": {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "hf" not found'}}},
            DegradedReason.CONTAINER_UNSTARTABLE,
            'pod chat-1: secret "hf" not found',
        ),
    ],
)
def test_degraded_in_the_engines_own_words(container: dict[str, Any], reason: DegradedReason, message: str) -> None:
    assert told_by(pod(**container)) == Verdict(TRUE, reason, message)


def test_a_container_of_the_users_template_is_told_after_the_engine() -> None:
    waits = {"name": "engine", "state": {"waiting": {"reason": "PodInitializing"}}}
    copy = {"name": "copy", "state": ENDED}
    logs = {"name": "logs", "image": "l:1", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}}
    first = pod(phase={"containerStatuses": [waits], "initContainerStatuses": [copy]})
    words = "pod chat-1: container copy ended (exit code 1): model /models/nope has no config.json"
    assert told_by(first) == Verdict(TRUE, DegradedReason.CONTAINER_FAILED, words)
    beside = pod(phase={"containerStatuses": [logs, waits]})
    assert told_by(beside) == Verdict(TRUE, DegradedReason.IMAGE_UNAVAILABLE, "pod chat-1: image l:1: no")
    both = pod(phase={"containerStatuses": [logs, {"name": "engine", "state": ENDED}]})
    assert told_by(both).message == ENGINE_WORDS


@pytest.mark.parametrize(
    "healthy",
    [
        pod(),
        pod(state={"waiting": {"reason": "ContainerCreating"}}),
        pod(state={"running": {}}),
        pod(state={"running": {}}, lastState=ENDED, phase={"conditions": [{"type": "Ready", "status": "True"}]}),
        pod(state={"terminated": {"exitCode": 0}}),
        {
            "metadata": {"name": "chat-1", "deletionTimestamp": "2026-01-02T03:04:05Z"},
            "status": pod(state=ENDED)["status"],
        },
    ],
)
def test_a_pod_that_starts_serves_or_ends_is_no_failure(healthy: dict[str, Any]) -> None:
    assert told_by(healthy) == Verdict(FALSE, DegradedReason.AS_EXPECTED, "")


REFUSED = {
    "phase": "Failed",
    "reason": "UnexpectedAdmissionError",
    "message": "Pod was rejected: Allocate failed due to requested number of devices unavailable for nvidia.com/gpu. "
    "Requested: 4, Available: 2, which is unexpected",
}
EVICTED = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: ephemeral-storage. "}
READY = {"conditions": [{"type": "Ready", "status": "True"}]}


def made(second: int, one: dict[str, Any]) -> dict[str, Any]:
    """The pod as one of this second, on node gpu-3."""
    metadata = {"creationTimestamp": f"2026-01-02T03:04:{second:02}Z", **one["metadata"]}
    return one | {"metadata": metadata, "spec": {"nodeName": "gpu-3"}}


def test_pods_that_a_kubelet_refuses_are_told_once_by_the_first_of_them() -> None:
    refused = [made(second, pod(f"chat-{second}", phase=REFUSED)) for second in (7, 5, 6)]
    starting = made(8, pod("chat-8", state={"waiting": {"reason": "ContainerCreating"}}))
    words = "pod chat-5: UnexpectedAdmissionError on node gpu-3: " + REFUSED["message"]
    assert told_by(*refused, starting) == Verdict(TRUE, DegradedReason.POD_FAILED, words)
    elsewhere = made(9, pod("chat-9", phase=REFUSED)) | {"spec": {"nodeName": "gpu-4"}}
    assert told_by(*refused, elsewhere).message == f"{words} (and 1 more failing pod)"
    failing = made(8, pod("chat-8", state=ENDED))
    found = told_by(*refused, failing)
    assert (found.reason, found.message[:11]) == (DegradedReason.ENGINE_FAILED, "pod chat-8:"), "who lives comes first"


def test_an_evicted_pod_is_told_in_the_kubelets_words_until_another_serves_for_it() -> None:
    killed = {"terminated": {"exitCode": 137, "reason": "Error"}}
    evicted = made(5, pod("chat-5", phase=EVICTED, state=killed))
    older, newer = (made(second, pod(f"chat-{second}", phase=READY)) for second in (4, 6))
    words = "pod chat-5: Evicted on node gpu-3: The node was low on resource: ephemeral-storage."
    assert told_by(evicted, older) == Verdict(TRUE, DegradedReason.POD_FAILED, words)
    made_up_for = Verdict(FALSE, DegradedReason.AS_EXPECTED, "")
    assert told_by(evicted, older, newer) == made_up_for
    assert told_by(evicted, older, missing=False) == made_up_for, "fewer replicas are wanted by now"


def test_a_problem_with_a_child_comes_first_and_others_are_counted() -> None:
    taken = Problem(DegradedReason.NAME_TAKEN, "Service chat is not ours")
    both = degraded([taken, taken], [pod(state=ENDED)], missing=True)
    assert both.message == "Service chat is not ours (and 1 more problem)"
    assert told_by(pod(state=ENDED), pod("chat-2", state=ENDED), pod("chat-3", state=ENDED)).message == (
        f"{ENGINE_WORDS} (and 2 more failing pods)"
    )


def test_a_log_as_last_words_is_cut_to_its_end() -> None:
    verdict = told_by(pod(state={"terminated": {"exitCode": 1, "message": "x" * 4000 + " CUDA out of memory"}}))
    assert len(verdict.message) < 700
    assert verdict.message.endswith("CUDA out of memory")


def test_configuration_is_applied_when_every_rank_of_every_ready_pod_confirms(a_deployment: Build) -> None:
    schedule = next_schedule(a_deployment().spec, None)
    confirming = Report("chat-1", generation=1, ranks=2, ranks_confirmed=2)
    late = Report("chat-2", generation=0, ranks=2, ranks_confirmed=1, problem="1 of 2 ranks run generation 1")
    silent = Report("chat-2", problem="GET /shift gave no answer within 2 s")

    assert configuration_applied(schedule, 1, [confirming]) == Verdict(
        TRUE, ConfigurationReason.CONFIRMED, "1 of 1 pods run generation 1"
    )
    assert configuration_applied(schedule, 2, [confirming, late]) == Verdict(
        FALSE,
        ConfigurationReason.WAITING_FOR_PODS,
        "1 of 2 pods run generation 1; pod chat-2: 1 of 2 ranks run generation 1",
    )
    assert configuration_applied(schedule, 2, [confirming, silent]).status is FALSE
    assert configuration_applied(schedule, 2, [confirming]).status is FALSE
    assert configuration_applied(schedule, 0, []).reason is ConfigurationReason.NO_READY_PODS


def known(**changes: Any) -> Signals:
    """Everything known of one pod."""
    some: Known[Any] = Known(0, 0.0, "series")
    return replace(
        Signals(
            step_sizes=Known((), 0.0, "shift_batched_tokens_bucket"),
            steps=some,
            step_time=Known({Degree(sequence=2, tensor=1): ()}, 0.0, "shift_step_time_seconds"),
            max_batched_tokens=Known(2048, 0.0, "shift_max_batched_tokens"),
            max_sequences=Known(256, 0.0, "shift_max_sequences"),
            pods_reporting=Known(1, 0.0, "shift_max_batched_tokens"),
            threshold_tokens=Known(Span(1, 1), 0.0, "shift_threshold_tokens"),
            generation=Known(Span(1, 1), 0.0, "shift_schedule_generation"),
            running=some,
            waiting=some,
        ),
        **changes,
    )


@pytest.mark.parametrize(
    ("signals", "status", "reason", "message"),
    [
        (known(), TRUE, MetricsReason.METRICS_FOUND, "1 of 1 ready pods report"),
        (None, UNKNOWN, MetricsReason.NOT_ASKED, "the decision loop has not looked yet"),
        (
            nothing_known(UnknownWhy.UNREACHABLE, "prometheus:9090 refused the connection"),
            UNKNOWN,
            MetricsReason.PROMETHEUS_UNREACHABLE,
            "prometheus:9090 refused the connection",
        ),
        (
            known(step_time=Unknown(UnknownWhy.ABSENT, "shift_step_time_seconds")),
            FALSE,
            MetricsReason.METRICS_MISSING,
            "shift_step_time_seconds: Absent",
        ),
        (
            known(
                step_sizes=Unknown(UnknownWhy.STALE, "shift_batched_tokens_bucket", "93 s old, at most 60 s allowed")
            ),
            FALSE,
            MetricsReason.METRICS_STALE,
            "shift_batched_tokens_bucket: Stale",
        ),
        (
            known(pods_reporting=Known(0, 0.0, "shift_max_batched_tokens")),
            FALSE,
            MetricsReason.METRICS_PARTIAL,
            "0 of 1 ready pods report",
        ),
        # What no decision needs is missing without harm.
        (known(running=Unknown(UnknownWhy.ABSENT, "x")), TRUE, MetricsReason.METRICS_FOUND, "1 of 1 ready pods report"),
    ],
)
def test_metrics_are_available_when_a_decision_has_what_it_needs(
    signals: Signals | None, status: ConditionStatus, reason: MetricsReason, message: str
) -> None:
    assert metrics_available(signals, 1) == Verdict(status, reason, message)


def test_without_a_ready_pod_missing_metrics_are_no_fault() -> None:
    verdict = metrics_available(nothing_known(UnknownWhy.ABSENT, ""), 0)
    assert verdict == Verdict(UNKNOWN, MetricsReason.NO_READY_PODS, "no replica is ready")
