"""What is told and when, on any course of things."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from shift_operator.controller.news import REPEAT_SECONDS, STEADY_LOOKS, Told

SECONDS = 15.0
courses = st.lists(st.sampled_from("abc"), min_size=1, max_size=80)


def displays(course: list[str]) -> list[str]:
    """What a reader sees after each look."""
    told = Told.first(course[0])
    seen = [course[0]]
    for n, what in enumerate(course[1:], start=1):
        told = told.after(what, n * SECONDS)
        seen.append(str(told.last))
    return seen


def test_what_is_new_is_told_at_once() -> None:
    assert displays(["a", "b", "c"]) == ["a", "b", "c"]


def test_what_flickers_stays_as_it_was_told_until_it_is_steady() -> None:
    assert displays(["a", "b", "a", "b", "a", "a", "a", "a"]) == ["a", "b", "b", "b", "b", "b", "b", "a"]


def test_a_move_is_told_whatever_was_before() -> None:
    told = Told.first("a").after("b", 1.0).after("a", 2.0, at_once=True)
    assert told.last == "a"


@given(course=courses)
def test_a_reader_never_sees_what_has_long_been_otherwise(course: list[str]) -> None:
    seen = displays(course)
    for n in range(STEADY_LOOKS, len(course) + 1):
        if len(set(course[n - STEADY_LOOKS : n])) == 1:
            assert seen[n - 1] == course[n - 1]


@given(course=courses)
def test_what_did_not_last_is_told_once_in_a_while_only(course: list[str]) -> None:
    """Each return to the display within the time was earned by looks in a row."""
    seen = displays(course)
    gone_at: dict[str, float] = {}
    for n in range(1, len(seen)):
        if seen[n] == seen[n - 1]:
            continue
        gone_at[seen[n - 1]] = n * SECONDS
        if n * SECONDS - gone_at.get(seen[n], -REPEAT_SECONDS) < REPEAT_SECONDS:
            assert set(course[n - STEADY_LOOKS + 1 : n + 1]) == {seen[n]}
