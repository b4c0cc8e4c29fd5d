"""Reasons are an interface: dashboards and alerts are written on them. Each is explained, and none goes."""

import re
from pathlib import Path

import pytest
from shift_operator.control.reasons import ThresholdLimit, ThresholdReason

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
]
PUBLISHED_LIMITS = ["RangeMinimum", "RangeMaximum", "MaxBatchedTokens"]


def test_the_reasons_only_grow() -> None:
    assert [str(reason) for reason in ThresholdReason] == PUBLISHED_REASONS
    assert [str(limit) for limit in ThresholdLimit] == PUBLISHED_LIMITS


@pytest.mark.parametrize("name", PUBLISHED_REASONS + PUBLISHED_LIMITS)
def test_each_has_a_heading_to_link_to(name: str) -> None:
    assert re.search(rf"^### {name}$", PAGE.read_text(), re.MULTILINE), f"docs/reasons.md does not explain {name}"
