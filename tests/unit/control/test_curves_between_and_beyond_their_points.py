"""Step-time curves where they were measured, between, below and above, and where two of them cross."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shift_operator.api.signals import CurvePoint
from shift_operator.control.curves import Curve, crossings, crossover


def curve(*points: tuple[int, float]) -> Curve:
    return Curve(tuple(CurvePoint(*point) for point in points))


@pytest.mark.parametrize(
    ("tokens", "seconds"),
    [
        pytest.param(8, 4.0, id="at a point"),
        pytest.param(12, 5.0, id="between two points"),
        pytest.param(1, 4.0, id="below the first: the time to read the weights"),
        pytest.param(32, 10.0, id="above the last: by the last slope"),
    ],
)
def test_seconds_of_a_step(tokens: int, seconds: float) -> None:
    assert curve((8, 4.0), (16, 6.0)).seconds(tokens) == pytest.approx(seconds)


def test_a_curve_that_falls_at_its_end_does_not_fall_on() -> None:
    assert curve((8, 4.0), (16, 3.9)).seconds(1_000_000) == 3.9


def test_the_crossover_is_the_first_whole_size_from_which_the_large_degree_stays_faster() -> None:
    small, large = curve((0, 4.0), (1000, 14.0)), curve((0, 8.0), (1000, 13.0))
    assert crossover(small, large, 2048) == 801  # equal at 800
    assert small.seconds(801) > large.seconds(801)


def test_a_large_degree_that_wins_only_beyond_the_largest_step_has_no_crossover() -> None:
    small, large = curve((0, 4.0), (1000, 14.0)), curve((0, 8.0), (1000, 13.0))
    assert crossover(small, large, 700) is None
    assert crossings(small, large, 700) == ()


def test_a_large_degree_that_always_wins_crosses_at_one_token() -> None:
    assert crossover(curve((1, 4.0), (64, 5.0)), curve((1, 3.0), (64, 4.0)), 64) == 1


def test_a_staircase_crosses_more_than_once() -> None:
    small = curve((1, 1.0), (512, 3.0), (1024, 5.0))
    large = curve((1, 2.0), (256, 1.9), (257, 3.9), (512, 3.9), (1024, 4.0))
    first, second = crossings(small, large, 1024)
    assert first < 256 < second
    assert crossover(small, large, 1024) == second


SIZES = (1, 8, 64, 512, 2048)
times = st.lists(st.floats(1e-4, 1.0), min_size=len(SIZES), max_size=len(SIZES))


@given(times, times)
def test_from_the_crossover_on_no_size_is_slower_with_the_large_degree(small: list[float], large: list[float]) -> None:
    one, other = curve(*zip(SIZES, small, strict=True)), curve(*zip(SIZES, large, strict=True))
    crossing = crossover(one, other, 2048)
    if crossing is None:
        assert other.seconds(2048) >= one.seconds(2048)
        return
    assert all(other.seconds(n) <= one.seconds(n) + 1e-9 for n in range(crossing, 2049))
    assert crossing == 1 or other.seconds(crossing - 1) >= one.seconds(crossing - 1) - 1e-9
