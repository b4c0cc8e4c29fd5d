"""CapacityAvailable: a pod without a node is normal for a while, then it is a lack, told with what is asked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from shift_operator.api.conditions import CapacityReason, ConditionStatus
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.capacity import capacity_available, seconds_to_deadline
from shift_operator.planning.conditions import Verdict

Build = Callable[..., ShiftDeployment]
SINCE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WORDS = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."


def pod(name: str, *, since: datetime = SINCE, reason: str = "Unschedulable", **metadata: Any) -> dict[str, Any]:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": reason,
        "message": WORDS,
        "lastTransitionTime": since.isoformat().replace("+00:00", "Z"),
    }
    return {"metadata": {"name": name, **metadata}, "status": {"conditions": [condition]}}


def test_a_pod_that_waits_past_the_deadline_says_what_is_asked(a_deployment: Build) -> None:
    deployment = a_deployment(replicas=4)
    pods = [pod("chat-b", since=SINCE + timedelta(seconds=30)), pod("chat-a"), {"metadata": {"name": "chat-c"}}]
    message = f"2 replicas wait for a node, 4 nvidia.com/gpu asked; pod chat-a: {WORDS}"

    early = capacity_available(deployment, pods, SINCE + timedelta(seconds=59))
    assert early == Verdict(ConditionStatus.TRUE, CapacityReason.WAITING_FOR_NODE, message)
    late = capacity_available(deployment, pods, SINCE + timedelta(seconds=60))
    assert late == Verdict(ConditionStatus.FALSE, CapacityReason.UNSCHEDULABLE, message)


@pytest.mark.parametrize(
    "fine",
    [
        {"metadata": {"name": "chat-a"}, "status": {}},
        pod("chat-a", deletionTimestamp="2026-01-02T03:04:05Z"),
        pod("chat-a", reason="SchedulingGated"),
    ],
    ids=["nobody looked yet", "ends", "held by a queue"],
)
def test_what_asks_for_no_node_lacks_none(a_deployment: Build, fine: dict[str, Any]) -> None:
    verdict = capacity_available(a_deployment(), [fine], SINCE + timedelta(days=1))
    assert verdict == Verdict(ConditionStatus.TRUE, CapacityReason.SCHEDULED, "")


def test_the_next_look_is_at_the_next_deadline(a_deployment: Build) -> None:
    deployment = a_deployment(rollout={"capacityDeadlineSeconds": 100})
    pods = [pod("chat-a"), pod("chat-b", since=SINCE + timedelta(seconds=50))]
    assert seconds_to_deadline(deployment, pods, SINCE + timedelta(seconds=40)) == 60
    assert seconds_to_deadline(deployment, pods, SINCE + timedelta(seconds=120)) == 30
    assert seconds_to_deadline(deployment, pods, SINCE + timedelta(seconds=150)) is None
    assert seconds_to_deadline(deployment, [], SINCE) is None
