"""docs/reference/conditions.md has each reason under its condition, and none that does not exist."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path

import pytest
from shift_operator.api.conditions import (
    AvailableReason,
    CapacityReason,
    ConditionType,
    ConfigurationReason,
    ConflictReason,
    DegradedReason,
    MetricsReason,
    PolicyReason,
    ProgressingReason,
)
from shift_operator.api.policy_status import BudgetReason, ContractReason, PolicyConditionType, PrometheusReason

PAGES = Path(__file__).parents[3] / "docs" / "reference"
PAGE = (PAGES / "conditions.md").read_text()
POLICY_PAGE = (PAGES / "policy-conditions.md").read_text()
REASONS: dict[ConditionType, type[StrEnum]] = {
    ConditionType.AVAILABLE: AvailableReason,
    ConditionType.PROGRESSING: ProgressingReason,
    ConditionType.DEGRADED: DegradedReason,
    ConditionType.METRICS_AVAILABLE: MetricsReason,
    ConditionType.CONFIGURATION_APPLIED: ConfigurationReason,
    ConditionType.CAPACITY_AVAILABLE: CapacityReason,
    ConditionType.POLICY_APPLIED: PolicyReason,
    ConditionType.CONFLICT: ConflictReason,
}
POLICY_REASONS: dict[PolicyConditionType, type[StrEnum]] = {
    PolicyConditionType.PROMETHEUS_AVAILABLE: PrometheusReason,
    PolicyConditionType.METRIC_CONTRACT_SATISFIED: ContractReason,
    PolicyConditionType.WITHIN_BUDGET: BudgetReason,
}


def test_every_condition_has_a_section() -> None:
    assert re.findall(r"^## (\w+)", PAGE, re.MULTILINE) == list(ConditionType) == list(REASONS)
    assert re.findall(r"^## (\w+)", POLICY_PAGE, re.MULTILINE) == list(PolicyConditionType) == list(POLICY_REASONS)


@pytest.mark.parametrize("type_", REASONS)
def test_a_section_lists_the_conditions_reasons(type_: ConditionType) -> None:
    section = PAGE.split(f"\n## {type_}", 1)[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(REASONS[type_])


@pytest.mark.parametrize("type_", POLICY_REASONS)
def test_so_does_a_policys(type_: PolicyConditionType) -> None:
    section = POLICY_PAGE.split(f"\n## {type_}", 1)[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(POLICY_REASONS[type_])
