"""A ClusterShiftPolicy's status from what was observed: pure, so that equal observations give an equal status."""

from dataclasses import dataclass
from datetime import datetime

from shift_operator.api.conditions import Condition, ConditionStatus, condition, kept
from shift_operator.api.policy import ClusterShiftPolicy
from shift_operator.api.policy_status import (
    BudgetReason,
    ClusterShiftPolicyStatus,
    ContractReason,
    PolicyConditionReason,
    PolicyConditionType,
    PrometheusReason,
)

Finding = tuple[ConditionStatus, PolicyConditionReason, str]


@dataclass(frozen=True)
class PolicyObserved:
    """What a tick of a policy saw.

    `deployments` to which it applies, `ready_pods` of them, `gpus_in_use` by all their pods. `configured`: whether
    anything names a Prometheus. `query_error` is None where it answered. `contract_faults` is a sentence on the series
    that are missing; None where none is, or nobody has checked.
    """

    deployments: int
    ready_pods: int
    gpus_in_use: int
    configured: bool = True
    query_error: str | None = None
    contract_checked: bool = False
    contract_faults: str | None = None


def policy_status_of(policy: ClusterShiftPolicy, observed: PolicyObserved, now: datetime) -> ClusterShiftPolicyStatus:
    """The status to report; times of what has not changed are those of the status before."""
    findings = {
        PolicyConditionType.PROMETHEUS_AVAILABLE: _prometheus(observed),
        PolicyConditionType.METRIC_CONTRACT_SATISFIED: _contract(observed),
        PolicyConditionType.WITHIN_BUDGET: _budget(policy, observed),
    }
    budget = policy.spec.budget
    before: tuple[Condition, ...] = policy.status.conditions if policy.status else ()
    generation = policy.metadata.generation
    return ClusterShiftPolicyStatus(
        observed_generation=generation,
        deployments=observed.deployments,
        gpus_in_use=observed.gpus_in_use,
        gpus=f"{observed.gpus_in_use}/{budget.max_gpus}" if budget else str(observed.gpus_in_use),
        conditions=kept(
            before,
            (
                condition(type_, status, reason, message, generation=generation, now=now)
                for type_, (status, reason, message) in findings.items()
            ),
        ),
    )


def _prometheus(observed: PolicyObserved) -> Finding:
    if not observed.configured:
        message = "set spec.prometheus.url, or prometheus.url in the chart's values"
        return ConditionStatus.FALSE, PrometheusReason.NOT_CONFIGURED, message
    if observed.query_error is not None:
        return ConditionStatus.FALSE, PrometheusReason.QUERY_FAILED, observed.query_error
    return ConditionStatus.TRUE, PrometheusReason.ANSWERS, ""


def _contract(observed: PolicyObserved) -> Finding:
    if observed.query_error is not None or not observed.configured:
        return ConditionStatus.UNKNOWN, ContractReason.NOT_CHECKED, "Prometheus did not answer"
    if observed.ready_pods == 0:
        return ConditionStatus.UNKNOWN, ContractReason.NO_READY_PODS, "no pod of the policy's deployments is ready"
    if not observed.contract_checked:
        return ConditionStatus.UNKNOWN, ContractReason.NOT_CHECKED, "not checked yet"
    if observed.contract_faults is not None:
        return ConditionStatus.FALSE, ContractReason.SERIES_MISSING, observed.contract_faults
    return ConditionStatus.TRUE, ContractReason.SATISFIED, ""


def _budget(policy: ClusterShiftPolicy, observed: PolicyObserved) -> Finding:
    if policy.spec.budget is None:
        return ConditionStatus.TRUE, BudgetReason.NO_BUDGET, ""
    most = policy.spec.budget.max_gpus
    message = f"{observed.gpus_in_use} of {most} GPUs in use"
    if observed.gpus_in_use > most:
        message += "; nothing is taken away, and no deployment of the policy grows until fewer are"
        return ConditionStatus.FALSE, BudgetReason.OVER_BUDGET, message
    return ConditionStatus.TRUE, BudgetReason.WITHIN_BUDGET, message
