"""Of installs that overlap one serves, and all of them say the same one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from shift_operator.api.conditions import ConditionStatus, ConflictReason
from shift_operator.planning.ownership import WAY_OUT, Install, Other, Ownership, conflict, ownership

T0 = datetime(2026, 11, 26, tzinfo=UTC)


def an_install(name: str, *namespaces: str, age: int = 0) -> Install:
    return Install(f"shift-system/{name}", frozenset(namespaces), T0 - timedelta(seconds=age))


def others(*installs: Install) -> list[Other]:
    return [Other(install) for install in installs]


def test_alone_it_serves_all() -> None:
    assert ownership(an_install("a"), [], "prod") == Ownership("shift-system/a")
    assert conflict(ownership(an_install("a"), [], "prod")).reason is ConflictReason.NO_CONFLICT


def test_one_that_names_the_namespace_goes_before_one_of_the_whole_cluster() -> None:
    everywhere, named = an_install("a", age=100), an_install("b", "prod")
    assert ownership(everywhere, others(named), "prod").owner == named
    assert ownership(everywhere, others(named), "prod").why == "which names the namespace"
    assert ownership(everywhere, others(named), "dev") == Ownership("shift-system/a")
    assert ownership(named, others(everywhere), "prod").others == (everywhere,)


def test_of_two_alike_the_older_serves_and_of_two_as_old_the_first_name() -> None:
    old, young = an_install("z", age=1), an_install("a")
    assert ownership(young, others(old), "prod").owner == old
    assert ownership(young, others(old), "prod").why == "whose Lease is older"
    same = an_install("b", age=1)
    assert ownership(old, others(same), "prod").owner == same
    assert ownership(old, others(same), "prod").why == "whose name comes first"


def test_what_belongs_to_no_namespace_is_of_an_install_of_the_whole_cluster() -> None:
    everywhere, named = an_install("a"), an_install("b", "prod")
    assert ownership(everywhere, others(named), None).is_ours
    assert ownership(an_install("c"), others(everywhere), None).owner == everywhere


def test_until_the_other_has_let_go_nobody_serves() -> None:
    everywhere, named = an_install("a"), an_install("b", "prod")
    serving = ownership(named, [Other(everywhere, lets_go=True)], "prod")
    assert (serving.is_ours, serving.owner, serving.letting_go) == (False, None, everywhere)


def test_the_condition_names_who_else_would_and_the_way_out() -> None:
    everywhere, young, named = an_install("a", age=5), an_install("c"), an_install("b", "prod")
    verdict = conflict(ownership(named, others(young, everywhere), "prod"))
    assert (verdict.status, verdict.reason) == (ConditionStatus.TRUE, ConflictReason.OVERLAPPING_INSTALLS)
    assert verdict.message == (
        "shift-system/a, shift-system/c would serve it too and leave it to shift-system/b, which names the namespace; "
        + WAY_OUT
    )


def test_where_others_cannot_be_seen_the_condition_is_unknown() -> None:
    verdict = conflict(Ownership("shift-system/a", hidden="no right"))
    assert (verdict.status, verdict.reason) == (ConditionStatus.UNKNOWN, ConflictReason.INSTALLS_HIDDEN)
    assert verdict.message == "no right"


NAMESPACES = st.frozensets(st.sampled_from(["dev", "prod", "test"]))
INSTALLS = st.lists(st.tuples(NAMESPACES, st.integers(0, 2)), min_size=1, max_size=5).map(
    lambda drawn: [an_install(f"i{n}", *names, age=age) for n, (names, age) in enumerate(drawn)]
)


@given(INSTALLS, st.sampled_from(["dev", "prod", None]))
def test_exactly_one_of_those_that_watch_a_namespace_serves_it(installs: list[Install], namespace: str | None) -> None:
    watching = [install for install in installs if install.watches(namespace)]
    views = {
        install.name: ownership(install, others(*(other for other in installs if other is not install)), namespace)
        for install in watching
    }
    serving = [name for name, view in views.items() if view.is_ours]
    assert len(serving) == min(1, len(watching))
    for name, view in views.items():
        if view.owner is None:
            assert {other.name for other in view.others} == views.keys() - {name}
        else:
            assert [view.owner.name] == serving
