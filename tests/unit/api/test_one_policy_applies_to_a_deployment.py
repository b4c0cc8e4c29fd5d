"""Of several policies one applies: who names the namespace, then more labels, then the older, then by name."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from shift_operator.api.policy import ClusterShiftPolicy, policy_of
from shift_operator.api.shiftdeployment import ShiftDeployment

TEAM = {"namespaces": ["team-a"]}
BATCH = {"labels": {"tier": "batch"}}


def a_policy(name: str, created: str = "2026-01-01T00:00:00Z", **selector: Any) -> ClusterShiftPolicy:
    metadata = {"name": name, "creationTimestamp": created}
    return ClusterShiftPolicy.from_body({"metadata": metadata, "spec": {"selector": selector}})


def a_deployment(namespace: str = "team-a", **labels: str) -> ShiftDeployment:
    spec = {
        "model": {"uri": "hf://org/name"},
        "engine": {"image": "example.com/shift-engine:1"},
        "parallelism": {"gpusPerReplica": 2, "degree": {"sequence": 2, "tensor": 1}},
    }
    metadata = {"name": "chat", "namespace": namespace, "labels": labels}
    return ShiftDeployment.from_body(
        {"apiVersion": "v1", "kind": "ShiftDeployment", "metadata": metadata, "spec": spec}
    )


def name_of(policy: ClusterShiftPolicy | None) -> str | None:
    return policy.name if policy else None


def test_an_empty_selector_selects_everything() -> None:
    assert name_of(policy_of(a_deployment(), [a_policy("all")])) == "all"


def test_without_a_policy_that_selects_it_none_applies() -> None:
    others = [a_policy("b", namespaces=["team-b"]), a_policy("batch", **BATCH)]
    assert policy_of(a_deployment(tier="chat"), others) is None


def test_all_labels_must_match() -> None:
    policy = a_policy("two", labels={"tier": "batch", "gpu": "h100"})
    assert policy_of(a_deployment(tier="batch"), [policy]) is None
    assert policy_of(a_deployment(tier="batch", gpu="h100", more="x"), [policy]) is policy


def test_who_names_the_namespace_goes_before_who_names_labels() -> None:
    policies = [a_policy("batch", **BATCH), a_policy("team", created="2026-02-01T00:00:00Z", **TEAM)]
    assert name_of(policy_of(a_deployment(tier="batch"), policies)) == "team"


def test_more_labels_go_before_fewer_and_older_before_newer() -> None:
    policies = [
        a_policy("all"),
        a_policy("newer", created="2026-03-01T00:00:00Z", **BATCH),
        a_policy("older", created="2026-02-01T00:00:00Z", **BATCH),
    ]
    assert name_of(policy_of(a_deployment(tier="batch"), policies)) == "older"
    assert name_of(policy_of(a_deployment(), policies)) == "all"


def test_of_the_same_age_the_first_by_name() -> None:
    assert name_of(policy_of(a_deployment(), [a_policy("b"), a_policy("a")])) == "a"


SELECTORS = st.fixed_dictionaries(
    {},
    optional={
        "namespaces": st.lists(st.sampled_from(["team-a", "team-b"]), unique=True),
        "labels": st.dictionaries(st.sampled_from(["tier", "gpu"]), st.sampled_from(["x", "y"])),
    },
)


@given(
    st.lists(st.tuples(SELECTORS, st.integers(1, 3)), max_size=6).flatmap(
        lambda drawn: st.tuples(st.just(drawn), st.permutations(range(len(drawn))))
    ),
    st.dictionaries(st.sampled_from(["tier", "gpu"]), st.sampled_from(["x", "y"])),
)
def test_the_order_of_the_policies_does_not_matter(
    drawn: tuple[list[tuple[dict[str, Any], int]], list[int]], labels: dict[str, str]
) -> None:
    selectors, order = drawn
    policies = [a_policy(f"p{i}", f"2026-01-0{day}T00:00:00Z", **s) for i, (s, day) in enumerate(selectors)]
    deployment = a_deployment(**labels)
    chosen = policy_of(deployment, policies)
    assert policy_of(deployment, [policies[i] for i in order]) is chosen
    assert (chosen is None) == (not any(p.selects("team-a", labels) for p in policies))
