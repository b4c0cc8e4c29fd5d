"""Deletion costs: the order of the costs is the order of the loads, and the unknown goes last."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shift_operator.planning.scale_down import deletion_costs, goes_down

COUNTS = st.dictionaries(st.text(), st.none() | st.integers(min_value=0, max_value=10**12))


def test_the_cost_is_the_load() -> None:
    assert deletion_costs({"chat-a": 5, "chat-b": 0, "chat-c": None}) == {"chat-a": 5, "chat-b": 0, "chat-c": 2**31 - 1}


@given(COUNTS)
def test_costs_are_ordered_as_loads_and_kubernetes_takes_them(requests: dict[str, int | None]) -> None:
    costs = deletion_costs(requests)
    assert costs.keys() == requests.keys()
    assert all(-(2**31) <= cost < 2**31 for cost in costs.values())
    for one, load in requests.items():
        for other, other_load in requests.items():
            if other_load is None or (load is not None and load <= other_load):
                assert costs[one] <= costs[other]


@pytest.mark.parametrize(
    ("live", "wanted", "expected"), [(3, 1, True), (3, 3, False), (1, 3, False), (3, 0, False), (None, 1, False)]
)
def test_loads_matter_only_where_some_go_and_some_stay(live: int | None, wanted: int, *, expected: bool) -> None:
    assert goes_down(None if live is None else {"spec": {"replicas": live}}, wanted) is expected
