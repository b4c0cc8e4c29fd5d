"""docs/reference/conditions.md has each reason under its condition, and none that does not exist."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path

import pytest
from shift_operator.api.conditions import (
    AvailableReason,
    ConditionType,
    ConfigurationReason,
    DegradedReason,
    MetricsReason,
    ProgressingReason,
)

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "conditions.md").read_text()
REASONS: dict[ConditionType, type[StrEnum]] = {
    ConditionType.AVAILABLE: AvailableReason,
    ConditionType.PROGRESSING: ProgressingReason,
    ConditionType.DEGRADED: DegradedReason,
    ConditionType.METRICS_AVAILABLE: MetricsReason,
    ConditionType.CONFIGURATION_APPLIED: ConfigurationReason,
}


def test_every_condition_has_a_section() -> None:
    assert re.findall(r"^## (\w+)", PAGE, re.MULTILINE) == list(ConditionType) == list(REASONS)


@pytest.mark.parametrize("type_", REASONS)
def test_a_section_lists_the_conditions_reasons(type_: ConditionType) -> None:
    section = PAGE.split(f"\n## {type_}", 1)[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(REASONS[type_])
