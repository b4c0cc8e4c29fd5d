"""What holds for the budget whatever is held, wanted, seen and promised."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from shift_operator.api.signals import DeploymentKey
from shift_operator.control.budget import Budget, BudgetAsk, NamespaceBudget, share_budget

from tests.unit.examples import examples

NAMESPACES = ("a", "b", "c")


@st.composite
def asks(draw: st.DrawFn) -> list[BudgetAsk]:
    found = []
    for number in range(draw(st.integers(1, 6))):
        gpus, held = draw(st.sampled_from([1, 2, 4, 8])), draw(st.integers(0, 4))
        terminating = gpus * draw(st.sampled_from([0, 0, 1, 2]))
        found.append(
            BudgetAsk(
                key=DeploymentKey(draw(st.sampled_from(NAMESPACES)), f"d{number}"),
                held=held,
                wanted=draw(st.integers(0, 8)),
                gpus_per_replica=gpus,
                seen_gpus=gpus * draw(st.integers(0, held)) + terminating,
                terminating_gpus=terminating,
                weight=draw(st.sampled_from([0.5, 1.0, 2.0, 3.0])),
            )
        )
    return found


budgets = st.builds(
    Budget,
    st.none() | st.integers(0, 120),
    st.dictionaries(
        st.sampled_from(NAMESPACES),
        st.builds(
            NamespaceBudget,
            st.none() | st.integers(0, 60),
            st.sampled_from([0, 0, 8, 16, 40]),
            st.sampled_from([1, 2, 3]),
        ),
    ),
)


def charged(given_to: Sequence[BudgetAsk], replicas: dict[DeploymentKey, int], namespace: str | None = None) -> int:
    return sum(a.charge(replicas[a.key]) for a in given_to if namespace in (None, a.key.namespace))


def shares(budget: Budget, wishes: Sequence[BudgetAsk]) -> dict[DeploymentKey, int]:
    return {key: grant.replicas for key, grant in share_budget(budget, wishes).items()}


@settings(max_examples=examples(300))
@given(budgets, asks())
def test_growth_never_exceeds_a_ceiling_and_nobody_loses_what_it_holds(budget: Budget, wishes: list[BudgetAsk]) -> None:
    granted = shares(budget, wishes)
    kept = {a.key: min(a.held, a.wanted) for a in wishes}
    for a in wishes:
        assert kept[a.key] <= granted[a.key] <= max(a.wanted, kept[a.key])
    if budget.max_gpus is not None:
        assert charged(wishes, granted) <= max(budget.max_gpus, charged(wishes, kept))
    for name, own in budget.namespaces.items():
        if own.max_gpus is not None:
            assert charged(wishes, granted, name) <= max(own.max_gpus, charged(wishes, kept, name))


@settings(max_examples=examples(300))
@given(budgets, asks())
def test_growth_leaves_the_guarantees_of_others_free(budget: Budget, wishes: list[BudgetAsk]) -> None:
    """A namespace that grew beyond its own guarantee left room for what is guaranteed to the others and unused."""
    granted = shares(budget, wishes)
    if budget.max_gpus is None:
        return
    kept = {a.key: min(a.held, a.wanted) for a in wishes}
    after = {n: charged(wishes, granted, n) for n in NAMESPACES}
    guaranteed = {n: budget.namespaces.get(n, NamespaceBudget()).guaranteed_gpus for n in NAMESPACES}
    reserved = sum(max(after[n], guaranteed[n]) for n in NAMESPACES)
    for name in NAMESPACES:
        if after[name] > max(guaranteed[name], charged(wishes, kept, name)):
            assert reserved <= budget.max_gpus


@settings(max_examples=examples(300))
@given(budgets, asks())
def test_a_guarantee_that_others_have_not_broken_is_honoured(budget: Budget, wishes: list[BudgetAsk]) -> None:
    """Whoever is refused within its namespace's guarantee is refused for a ceiling that is truly full."""
    granted = shares(budget, wishes)
    for a in wishes:
        own = budget.namespaces.get(a.key.namespace, NamespaceBudget())
        one_more = a.charge(granted[a.key] + 1) - a.charge(granted[a.key])
        within = charged(wishes, granted, a.key.namespace) + one_more <= own.guaranteed_gpus
        if granted[a.key] < a.wanted and within:
            full = budget.max_gpus is not None and charged(wishes, granted) + one_more > budget.max_gpus
            own_full = own.max_gpus is not None and charged(wishes, granted, a.key.namespace) + one_more > own.max_gpus
            assert full or own_full


@settings(max_examples=examples(400))
@given(budgets, asks(), st.integers(0, 5), st.sampled_from([1.5, 2.0, 10.0]))
def test_a_higher_priority_never_gives_less(budget: Budget, wishes: list[BudgetAsk], which: int, factor: float) -> None:
    which %= len(wishes)
    raised = [replace(a, weight=a.weight * factor) if i == which else a for i, a in enumerate(wishes)]
    key = wishes[which].key
    assert shares(budget, raised)[key] >= shares(budget, wishes)[key]


@settings(max_examples=examples(400))
@given(budgets, asks(), st.sampled_from(NAMESPACES), st.sampled_from([1, 2, 4, 8]), st.sampled_from([1.5, 2.0, 10.0]))
def test_a_namespace_of_higher_weight_never_gets_less(
    budget: Budget, wishes: list[BudgetAsk], namespace: str, gpus: int, factor: float
) -> None:
    """With replicas of one size: of different sizes, one that comes earlier may fill a gap less well."""
    wishes = [replace(a, gpus_per_replica=gpus, seen_gpus=a.held * gpus, terminating_gpus=0) for a in wishes]
    own = budget.namespaces.get(namespace, NamespaceBudget())
    heavier = replace(budget, namespaces={**budget.namespaces, namespace: replace(own, weight=own.weight * factor)})
    before, after = shares(budget, wishes), shares(heavier, wishes)
    assert charged(wishes, after, namespace) >= charged(wishes, before, namespace)


@given(budgets, asks())
def test_the_order_of_the_asks_does_not_matter(budget: Budget, wishes: list[BudgetAsk]) -> None:
    assert share_budget(budget, wishes) == share_budget(budget, wishes[::-1])


@given(budgets, asks())
def test_nobody_is_refused_what_would_still_fit(budget: Budget, wishes: list[BudgetAsk]) -> None:
    """No GPU stays unused for no reason: each refused deployment is refused again when all others have settled."""
    granted = shares(budget, wishes)
    settled = [
        replace(a, held=granted[a.key], wanted=granted[a.key], seen_gpus=a.charge(granted[a.key])) for a in wishes
    ]
    for i, a in enumerate(wishes):
        alone = [*settled[:i], replace(settled[i], wanted=a.wanted), *settled[i + 1 :]]
        if a.wanted > granted[a.key]:
            before = a.charge(granted[a.key])
            one_more = a.charge(granted[a.key] + 1)
            assert one_more > before
            assert shares(budget, alone)[a.key] == granted[a.key]
