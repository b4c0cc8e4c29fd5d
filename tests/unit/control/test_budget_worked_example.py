"""The budget at its plainest: the numbers of its docstring, and one case per rule."""

import pytest
from shift_operator.api.signals import DeploymentKey
from shift_operator.control.budget import Budget, BudgetAsk, NamespaceBudget, share_budget
from shift_operator.control.reasons import ReplicasLimit


def ask(name: str, held: int, wanted: int, *, gpus: int = 8, namespace: str = "prod", **other: float) -> BudgetAsk:
    """A deployment whose pods seen are those it holds."""
    values = {"seen_gpus": held * gpus, "terminating_gpus": 0, "weight": 1.0} | other
    return BudgetAsk(
        DeploymentKey(namespace, name),
        held,
        wanted,
        gpus,
        int(values["seen_gpus"]),
        int(values["terminating_gpus"]),
        values["weight"],
    )


def shares(budget: Budget, *asks: BudgetAsk) -> dict[str, int]:
    return {key.name: grant.replicas for key, grant in share_budget(budget, asks).items()}


def test_the_example() -> None:
    budget = Budget(48, {"gold": NamespaceBudget(weight=3), "bronze": NamespaceBudget(weight=1)})
    gold, bronze = ask("g", 1, 6, namespace="gold"), ask("b", 1, 6, namespace="bronze")
    grants = share_budget(budget, [gold, bronze])
    assert {key.name: grant.replicas for key, grant in grants.items()} == {"g": 5, "b": 1}
    assert {grant.limit for grant in grants.values()} == {ReplicasLimit.CLUSTER_BUDGET}
    assert "48 of 48 in use" in str(grants[gold.key].evidence[0])


def test_weights_share_between_namespaces_however_many_deployments_each_has() -> None:
    """Three parts to one of 64 GPUs, though the one has three deployments and the three have one."""
    budget = Budget(64, {"gold": NamespaceBudget(weight=3)})
    crowd = [ask(name, 0, 9, namespace="crowd") for name in "xyz"]
    assert shares(budget, ask("g", 0, 9, namespace="gold"), *crowd) == {"g": 6, "x": 1, "y": 1, "z": 0}


def test_within_a_namespace_the_priority_of_a_deployment_counts() -> None:
    assert shares(Budget(48), ask("gold", 1, 6, weight=3.0), ask("bronze", 1, 6)) == {"gold": 5, "bronze": 1}


def test_equal_weights_share_equally() -> None:
    assert shares(Budget(48), ask("a", 1, 6), ask("b", 1, 6)) == {"a": 3, "b": 3}


def test_without_a_budget_everybody_gets_what_it_wants() -> None:
    assert shares(Budget(), ask("a", 1, 600), ask("b", 3, 0)) == {"a": 600, "b": 0}


def test_what_goes_down_is_free_for_others_once_its_pods_are_gone() -> None:
    assert shares(Budget(32), ask("down", 3, 1), ask("up", 1, 3)) == {"down": 1, "up": 1}
    draining = ask("down", 1, 1, seen_gpus=24, terminating_gpus=16)
    assert shares(Budget(32), draining, ask("up", 1, 3)) == {"down": 1, "up": 1}
    assert shares(Budget(32), ask("down", 1, 1), ask("up", 1, 3)) == {"down": 1, "up": 3}


def test_a_budget_below_what_is_held_stops_growth_and_takes_nothing() -> None:
    assert shares(Budget(8), ask("a", 3, 4), ask("b", 2, 2), ask("c", 2, 1)) == {"a": 3, "b": 2, "c": 1}


def test_a_guarantee_is_lent_to_nobody() -> None:
    budget = Budget(48, {"prod": NamespaceBudget(guaranteed_gpus=16)})
    grants = share_budget(budget, [ask("a", 1, 9, namespace="dev", weight=100.0), ask("b", 0, 1)])
    assert {key.name: grant.replicas for key, grant in grants.items()} == {"a": 4, "b": 1}
    assert grants[DeploymentKey("dev", "a")].limit is ReplicasLimit.GUARANTEES
    assert "8 guaranteed to other namespaces" in str(grants[DeploymentKey("dev", "a")].evidence[0])


def test_a_namespace_has_its_own_ceiling() -> None:
    budget = Budget(48, {"prod": NamespaceBudget(max_gpus=16)})
    grants = share_budget(budget, [ask("a", 1, 9), ask("b", 1, 9, namespace="dev")])
    assert {key.name: grant.replicas for key, grant in grants.items()} == {"a": 2, "b": 4}
    assert grants[DeploymentKey("prod", "a")].limit is ReplicasLimit.NAMESPACE_BUDGET


@pytest.mark.parametrize("seen_gpus", [16, 24])
def test_a_pod_that_is_still_there_may_be_kept_in_a_full_cluster(seen_gpus: int) -> None:
    """It was to go and has not been told yet: wanting it back takes no GPU that is not taken."""
    assert shares(Budget(24), ask("a", 1, 2, seen_gpus=seen_gpus), ask("b", 1, 1)) == {"a": 2, "b": 1}
