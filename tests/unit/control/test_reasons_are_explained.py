"""Reasons are an interface: dashboards and alerts are written on them. Each is explained, and none goes."""

import re
from pathlib import Path

import pytest
from shift_operator.api.status import DecisionOutcome
from shift_operator.control.reasons import (
    DegreeLimit,
    DegreeReason,
    ReplicasLimit,
    ReplicasReason,
    ThresholdLimit,
    ThresholdReason,
)

PAGE = Path(__file__).parents[3] / "docs" / "reasons.md"

# Append to these lists with each new one. A name never leaves them: someone's alert waits for it.
PUBLISHED_REASONS = [
    "LessStepTime",
    "OutsideRange",
    "BestAlready",
    "GainTooSmall",
    "TooFewSteps",
    "RangeAboveSteps",
    "SignalsMissing",
    "SignalsStale",
    "SignalsPartial",
    "PrometheusUnreachable",
    "Fallback",
]
PUBLISHED_LIMITS = ["RangeMinimum", "RangeMaximum", "MaxBatchedTokens"]
PUBLISHED_REPLICAS_REASONS = [
    "Demand",
    "QueueGrows",
    "KVCacheFull",
    "SLOMissed",
    "Idle",
    "Asleep",
    "Woken",
    "OutsideBounds",
    "Stabilizing",
    "ScaleDownUnsafe",
    "Fallback",
    "SignalsMissing",
    "SignalsStale",
    "SignalsPartial",
    "PrometheusUnreachable",
    "NoPerformanceModel",
]
PUBLISHED_REPLICAS_LIMITS = [
    "MinReplicas",
    "MaxReplicas",
    "Stabilization",
    "ScaleDownTests",
    "ScaleUpRate",
    "ClusterBudget",
    "NamespaceBudget",
    "Guarantees",
]
PUBLISHED_DEGREE_REASONS = [
    "LessStepTime",
    "BestAlready",
    "GainTooSmall",
    "GainTooYoung",
    "KVCacheTooSmall",
    "AnotherChanges",
    "NotACandidate",
    "TooFewSteps",
    "SignalsMissing",
    "SignalsStale",
    "SignalsPartial",
    "PrometheusUnreachable",
    "Fallback",
]
PUBLISHED_DEGREE_LIMITS = ["KVCache", "Dwell", "OneAtATime"]
PUBLISHED_OUTCOMES = ["Pending", "Applied", "Held", "Advised", "RolledBack"]
PUBLISHED = sorted(
    {
        *PUBLISHED_REASONS,
        *PUBLISHED_LIMITS,
        *PUBLISHED_REPLICAS_REASONS,
        *PUBLISHED_REPLICAS_LIMITS,
        *PUBLISHED_DEGREE_REASONS,
        *PUBLISHED_DEGREE_LIMITS,
        *PUBLISHED_OUTCOMES,
    }
)


def test_the_reasons_only_grow() -> None:
    assert [str(reason) for reason in ThresholdReason] == PUBLISHED_REASONS
    assert [str(limit) for limit in ThresholdLimit] == PUBLISHED_LIMITS
    assert [str(reason) for reason in ReplicasReason] == PUBLISHED_REPLICAS_REASONS
    assert [str(limit) for limit in ReplicasLimit] == PUBLISHED_REPLICAS_LIMITS
    assert [str(reason) for reason in DegreeReason] == PUBLISHED_DEGREE_REASONS
    assert [str(limit) for limit in DegreeLimit] == PUBLISHED_DEGREE_LIMITS
    assert [str(outcome) for outcome in DecisionOutcome] == PUBLISHED_OUTCOMES


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_has_a_heading_to_link_to(name: str) -> None:
    assert re.search(rf"^### {name}$", PAGE.read_text(), re.MULTILINE), f"docs/reasons.md does not explain {name}"
