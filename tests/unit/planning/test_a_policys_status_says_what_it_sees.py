"""ClusterShiftPolicy's status: what a tick saw of its deployments, its Prometheus and its budget."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from shift_operator.api.policy import ClusterShiftPolicy
from shift_operator.planning.policy_status import PolicyObserved, policy_status_of

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SEEN = PolicyObserved(deployments=3, ready_pods=2, gpus_in_use=16, contract_checked=True)


def a_policy(**spec: Any) -> ClusterShiftPolicy:
    return ClusterShiftPolicy.from_body({"metadata": {"name": "teams", "generation": 2}, "spec": spec})


def conditions(observed: PolicyObserved, **spec: Any) -> dict[str, tuple[str, str, str]]:
    status = policy_status_of(a_policy(**spec), observed, NOW)
    return {c.type: (c.status, c.reason, c.message) for c in status.conditions}


def test_all_is_well() -> None:
    status = policy_status_of(a_policy(budget={"maxGPUs": 48}), SEEN, NOW).to_body()
    assert {key: status[key] for key in ("observedGeneration", "deployments", "gpusInUse", "gpus")} == {
        "observedGeneration": 2, "deployments": 3, "gpusInUse": 16, "gpus": "16/48",
    }  # fmt: skip
    assert {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]} == {
        "PrometheusAvailable": ("True", "Answers"),
        "MetricContractSatisfied": ("True", "Satisfied"),
        "WithinBudget": ("True", "WithinBudget"),
    }


@pytest.mark.parametrize(
    ("change", "type_", "finding"),
    [
        ({"query_error": "refused"}, "PrometheusAvailable", ("False", "QueryFailed", "refused")),
        ({"query_error": "refused"}, "MetricContractSatisfied", ("Unknown", "NotChecked", "Prometheus did not answer")),
        ({"contract_faults": "a: Absent"}, "MetricContractSatisfied", ("False", "SeriesMissing", "a: Absent")),
        ({"contract_checked": False}, "MetricContractSatisfied", ("Unknown", "NotChecked", "not checked yet")),
        (
            {"contract_faults": "a: Absent", "ready_pods": 0},
            "MetricContractSatisfied",
            ("Unknown", "NoReadyPods", "no pod of the policy's deployments is ready"),
        ),
    ],
)
def test_what_cannot_be_seen_is_named(change: dict[str, Any], type_: str, finding: tuple[str, str, str]) -> None:
    assert conditions(replace(SEEN, **change))[type_] == finding


def test_without_a_prometheus_it_says_where_to_name_one() -> None:
    found = conditions(replace(SEEN, configured=False))
    assert found["PrometheusAvailable"][:2] == ("False", "NotConfigured")
    assert "spec.prometheus.url" in found["PrometheusAvailable"][2]
    assert found["MetricContractSatisfied"][0] == "Unknown"


def test_a_budget_that_was_cut_below_what_runs_is_told_with_its_numbers() -> None:
    _, reason, message = conditions(SEEN, budget={"maxGPUs": 8})["WithinBudget"]
    assert reason == "OverBudget"
    assert message.startswith("16 of 8 GPUs in use; nothing is taken away")
    assert conditions(SEEN)["WithinBudget"][1] == "NoBudget"


def test_a_moment_later_nothing_is_new() -> None:
    before = policy_status_of(a_policy(), SEEN, NOW)
    later = a_policy().model_copy(update={"status": type(before).from_body(before.to_body())})
    assert policy_status_of(later, SEEN, NOW + timedelta(minutes=1)) == later.status
