"""What the operator reports of a ClusterShiftPolicy: what it selects, what that holds, and whether it can be seen.

People write alerts on the reasons: the lists only grow. docs/reference/policy-conditions.md says what to do about each.
"""

from enum import StrEnum
from typing import Annotated, TypeAlias

from pydantic import Field

from shift_operator.api.base import ApiType, keyed_by
from shift_operator.api.conditions import Condition

Count = Annotated[int, Field(ge=0)]


class PolicyConditionType(StrEnum):
    PROMETHEUS_AVAILABLE = "PrometheusAvailable"  # the policy's Prometheus answers
    METRIC_CONTRACT_SATISFIED = "MetricContractSatisfied"  # it has every series that the laws need
    WITHIN_BUDGET = "WithinBudget"  # the deployments hold no more GPUs than the budget has


class PrometheusReason(StrEnum):
    ANSWERS = "Answers"  # True
    QUERY_FAILED = "QueryFailed"  # False: the message is its error; all that the policy decides is held
    NOT_CONFIGURED = "NotConfigured"  # False: neither the policy nor the operator's flags name one


class ContractReason(StrEnum):
    SATISFIED = "Satisfied"  # True
    SERIES_MISSING = "SeriesMissing"  # False: the message names the series, what is wrong, and of which deployments
    NO_READY_PODS = "NoReadyPods"  # Unknown: no engine runs that could have series
    NOT_CHECKED = "NotChecked"  # Unknown: Prometheus did not answer, or nobody has asked yet


class BudgetReason(StrEnum):
    NO_BUDGET = "NoBudget"  # True: there is no limit
    WITHIN_BUDGET = "WithinBudget"  # True
    OVER_BUDGET = "OverBudget"  # False: it was cut below what runs; nothing is taken away, nothing grows


PolicyConditionReason: TypeAlias = PrometheusReason | ContractReason | BudgetReason


class ClusterShiftPolicyStatus(ApiType):
    """The state of a policy as the operator last saw it. Written by an operator of the whole cluster only."""

    observed_generation: Count | None = None
    """The spec's generation that this status is about."""

    deployments: Count | None = None
    """ShiftDeployments to which the policy applies. Those that it selects and another policy goes before do not
    count."""

    gpus_in_use: Annotated[int | None, Field(ge=0, alias="gpusInUse")] = None
    """GPUs that their pods hold, those of pods that are ending included. Unit: GPUs."""

    gpus: Annotated[str | None, Field(max_length=32)] = None
    """GPUs in use of those in the budget, for people: 16/48. Only those in use where there is no budget."""

    conditions: Annotated[tuple[Condition, ...], Field(max_length=16, json_schema_extra=keyed_by("type"))] = ()
    """PrometheusAvailable, MetricContractSatisfied, WithinBudget."""
