"""Step-time curves: the crossover, and what live steps may change."""

import random

import pytest
from shift_engine.curves import (
    FASTEST,
    SLOWEST,
    StepTimeCurves,
    calibration_sizes,
    crossover_tokens,
    fastest_ranges,
    interpolated,
)
from shift_engine.degree import Degree, degrees_of
from shift_engine.schedule import MAX_RANGES, Schedule, TokenRange

TENSOR, SEQUENCE = Degree(1, 2), Degree(2, 1)


def curves() -> StepTimeCurves:
    return StepTimeCurves((1, 100, 1000), {TENSOR: (2.0, 4.0, 20.0), SEQUENCE: (4.0, 5.0, 16.0)})


def test_the_crossover_lies_where_the_lines_meet() -> None:
    # The difference goes from +1 at 100 to -4 at 1000: zero at 280.
    assert curves().crossover(SEQUENCE) == 281


@pytest.mark.parametrize(
    ("small", "large", "crossover"),
    [
        ([1, 2, 3], [2, 3, 4], None),  # never
        ([2, 3, 4], [1, 2, 3], 1),  # always
        ([2, 2, 4], [1, 3, 3], 551),  # faster, slower, faster: only the stretch that lasts counts
        ([2, 2, 4], [1, 1, 5], None),  # faster, but not at the largest size
        ([1, 2, 3], [1, 2, 3], None),  # equal is not faster
    ],
)
def test_the_crossover_is_where_the_large_degree_stays_faster(
    small: list[float], large: list[float], crossover: int | None
) -> None:
    assert crossover_tokens((1, 100, 1000), small, large) == crossover


def test_without_calibration_there_is_no_crossover_and_nothing_to_refine() -> None:
    empty = StepTimeCurves()
    empty.observe(TENSOR, 5, 1.0)
    assert empty.crossover(SEQUENCE) is None
    assert StepTimeCurves((1,), {TENSOR: (1.0,)}).crossover(TENSOR) is None


def test_between_points_linear_below_constant_above_proportional() -> None:
    assert [interpolated((10, 20), (1.0, 3.0), n) for n in (1, 10, 15, 20, 40)] == [1.0, 1.0, 2.0, 3.0, 6.0]


@pytest.mark.parametrize("largest", [1, 7, 64, 2048, 5000, 131072])
def test_sizes_rise_to_the_largest_step(largest: int) -> None:
    sizes = calibration_sizes(largest)
    assert sizes[-1] == largest
    assert list(sizes) == sorted(set(sizes))
    assert len(sizes) <= 16


@pytest.mark.parametrize(
    ("largest", "decode"), [(8192, 256), (8192, 100), (2048, 512), (257, 256), (256, 256), (64, 256)]
)
def test_both_sides_of_the_hosts_largest_graph_are_timed(largest: int, decode: int) -> None:
    sizes = calibration_sizes(largest, decode)
    assert list(sizes) == sorted(set(sizes))
    assert sizes[-1] == largest
    assert {n for n in (decode, decode + 1) if n <= largest} <= set(sizes)
    assert set(calibration_sizes(largest)) <= set(sizes)


def test_a_jump_behind_the_hosts_largest_graph_is_found() -> None:
    """As on two H200: one graph up to 256 rows and 12 ms in pieces behind, where the overlay takes 10."""
    sizes = calibration_sizes(8192, 256)
    host = [3.3 + 3.7 * n / 256 if n <= 256 else max(12.0, n / 64) for n in sizes]
    overlay = [max(9.0 + n / 200, n / 66) for n in sizes]
    assert StepTimeCurves(sizes, {TENSOR: tuple(host), SEQUENCE: tuple(overlay)}).crossover(SEQUENCE) == 257


def test_live_steps_move_the_nearest_point_slowly_and_never_out_of_bounds() -> None:
    live = curves()
    live.observe(TENSOR, 100, 4.0 * 50)
    assert 4.0 < live.seconds(TENSOR)[1] < 4.5
    for _ in range(2000):
        live.observe(TENSOR, 100, 4.0 * 50)
        live.observe(TENSOR, 1, 2.0 / 1000)
    slow, fast = live.seconds(TENSOR)[1] / 4.0, live.seconds(TENSOR)[0] / 2.0
    assert slow == pytest.approx(SLOWEST, rel=0.01)
    assert fast == pytest.approx(FASTEST, rel=0.05)
    assert live.seconds(TENSOR)[2] == 20.0


def test_a_degree_that_nobody_runs_shares_the_drift_of_the_one_in_use() -> None:
    live = curves()
    for _ in range(1000):
        live.observe(TENSOR, 100, 4.0 * 1.5)  # longer contexts than the calibration's: slower in every mode
    assert live.seconds(SEQUENCE)[1] == pytest.approx(5.0 * 1.5, rel=0.01)


def test_live_steps_of_its_own_outweigh_the_shared_drift() -> None:
    live = curves()
    for _ in range(1000):
        live.observe(TENSOR, 100, 4.0 * 1.5)
        live.observe(SEQUENCE, 100, 5.0)
    assert live.seconds(SEQUENCE)[1] == pytest.approx(5.0, rel=0.02)
    assert live.seconds(TENSOR)[1] == pytest.approx(6.0, rel=0.02)


def test_noise_leaves_the_crossover_where_it_is() -> None:
    live, dice = curves(), random.Random(3)
    for _ in range(5000):
        tokens = dice.randint(1, 1000)
        for degree in (TENSOR, SEQUENCE):
            true = interpolated(live.sizes, live.calibrated[degree], tokens)
            live.observe(degree, tokens, true * dice.uniform(0.8, 1.2))
    assert live.crossover(SEQUENCE) == pytest.approx(281, rel=0.35)


FULL, HALVES, ALONE = degrees_of(4)


def test_the_first_schedule_has_a_range_for_each_degree_that_is_fastest_somewhere() -> None:
    """Lines that cross at 100.5 (FULL and HALVES) and at 500.5 (HALVES and ALONE)."""
    sizes = (1, 1000)
    lines = {FULL: (1.0, 0.1), HALVES: (6.025, 0.05), ALONE: (26.045, 0.01)}
    curves = {degree: [a + b * n for n in sizes] for degree, (a, b) in lines.items()}
    assert fastest_ranges(sizes, curves) == (TokenRange(100, FULL), TokenRange(500, HALVES), TokenRange(None, ALONE))


@pytest.mark.parametrize(
    ("seconds", "ranges"),
    [
        ({FULL: [1, 2], ALONE: [2, 3]}, [(None, FULL)]),
        ({FULL: [2, 3], ALONE: [1, 2]}, [(None, ALONE)]),
        ({FULL: [1, 2], ALONE: [1, 2]}, [(None, FULL)]),  # equal: what needs no all-to-all
        ({FULL: [1, 4], HALVES: [3, 5], ALONE: [2, 3]}, [(51, FULL), (None, ALONE)]),  # one that is never fastest
        ({FULL: [1, 4]}, [(None, FULL)]),
    ],
)
def test_a_degree_that_is_never_fastest_has_no_range(
    seconds: dict[Degree, list[float]], ranges: list[tuple[int | None, Degree]]
) -> None:
    assert [(each.up_to_tokens, each.degree) for each in fastest_ranges((1, 101), seconds)] == ranges


def test_the_first_schedule_of_any_curves_is_valid_and_its_sequence_parallelism_only_grows() -> None:
    dice = random.Random(3)
    for _ in range(500):
        gpus = dice.choice((2, 4, 8, 12, 64))
        sizes = calibration_sizes(dice.randint(1, 9000))
        noisy = {d: [dice.uniform(0.1, 2) * (1 + n / 500) for n in sizes] for d in degrees_of(gpus)}
        ranges = fastest_ranges(sizes, noisy)
        assert 1 <= len(ranges) <= MAX_RANGES
        bounds = [each.up_to_tokens for each in ranges]
        assert bounds[-1] is None
        bounded = [bound for bound in bounds if bound is not None]
        assert bounded == sorted(set(bounded))
        assert all(1 <= bound < sizes[-1] for bound in bounded)
        sequences = [each.degree.sequence for each in ranges]
        assert sequences == sorted(set(sequences))
        largest = Schedule(0, ranges).degree_for(sizes[-1])
        assert noisy[largest][-1] == min(seconds[-1] for seconds in noisy.values())


def test_a_degree_that_comes_later_is_refined_like_the_others() -> None:
    live = curves()
    for _ in range(200):
        live.observe(TENSOR, 100, 4.0 * 2)
    live.add(Degree(4, 1), [1.0, 2.0, 3.0])
    assert live.seconds(Degree(4, 1))[1] == pytest.approx(4.0, rel=0.1)  # what slows the others slows it too
    live.observe(Degree(4, 1), 1000, 3.3)
    assert live.seconds(Degree(4, 1))[2] > 3.0
