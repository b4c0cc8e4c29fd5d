"""Calibration: every rank runs the same steps, in bounded time, with the same sizes for each degree."""

from itertools import pairwise

from shift_engine.calibration import TIMED_STEPS, calibrate, calibrate_further
from shift_engine.curves import StepTimeCurves, calibration_sizes
from shift_engine.degree import Degree

TENSOR, SEQUENCE = Degree(1, 2), Degree(2, 1)
SIZES = calibration_sizes(8192)


class Rank:
    """Steps that take what a formula says; the rank notes which it ran."""

    def __init__(self, seconds_per_token: float, spread: float = 1.0) -> None:
        self.ran: list[tuple[Degree, int]] = []
        self.spent = 0.0
        self._seconds_per_token, self._spread = seconds_per_token, spread

    def step(self, degree: Degree, tokens: int) -> float:
        self.ran.append((degree, tokens))
        factor = self._spread if len(self.ran) % 5 == 0 else 1.0
        seconds = (1e-4 * degree.sequence + tokens * self._seconds_per_token / degree.sequence) * factor
        self.spent += seconds
        return seconds


def alone(values: list[float]) -> list[float]:
    return values


def test_a_fast_model_is_timed_at_all_sizes() -> None:
    rank = Rank(1e-6)
    curves = calibrate(rank.step, alone, [TENSOR, SEQUENCE], SIZES)
    assert curves.sizes == SIZES
    assert rank.ran.count((TENSOR, 8192)) == TIMED_STEPS + 1
    assert curves.crossover(SEQUENCE) is not None


def test_the_median_ignores_a_slow_step() -> None:
    curves = calibrate(Rank(1e-6, spread=100).step, alone, [TENSOR, SEQUENCE], SIZES)
    assert all(a <= b for a, b in pairwise(curves.calibrated[TENSOR]))


def test_a_slow_model_leaves_out_the_large_sizes_for_all_degrees_alike() -> None:
    rank = Rank(2e-3)
    curves = calibrate(rank.step, alone, [TENSOR, SEQUENCE], SIZES, budget_seconds=8.0)
    assert 1 < len(curves.sizes) < len(SIZES)
    assert {len(points) for points in curves.calibrated.values()} == {len(curves.sizes)}
    assert rank.spent < 8.0 + 3 * (max(curves.calibrated[TENSOR]) + max(curves.calibrated[SEQUENCE]))


def test_even_the_slowest_model_has_its_first_point() -> None:
    curves = calibrate(Rank(100.0).step, alone, [TENSOR, SEQUENCE], SIZES)
    assert len(curves.sizes) == 1


def test_ranks_that_agree_on_times_run_the_same_steps() -> None:
    """A fast rank that is told the slow one's times does what the slow one does."""
    slow, fast = Rank(2e-3), Rank(1e-6)
    agreed: list[list[float]] = []

    def of_slow(values: list[float]) -> list[float]:
        agreed.append(values)
        return values

    calibrate(slow.step, of_slow, [TENSOR, SEQUENCE], SIZES)
    told = iter(agreed)
    calibrate(fast.step, lambda _: next(told), [TENSOR, SEQUENCE], SIZES)
    assert fast.ran == slow.ran


def test_a_degree_that_comes_later_has_the_sizes_of_the_others() -> None:
    before = calibrate(Rank(1e-6).step, alone, [TENSOR], SIZES)
    rank = Rank(1e-6)
    seconds = calibrate_further(rank.step, alone, SEQUENCE, before, TENSOR)
    assert len(seconds) == len(before.sizes)
    assert rank.ran.count((SEQUENCE, SIZES[-1])) == 2
    assert {degree for degree, _ in rank.ran} == {SEQUENCE}


def test_requests_wait_for_a_late_timing_only_so_long_and_the_rest_is_taken_in_proportion() -> None:
    before = StepTimeCurves((1, 100, 1000), {TENSOR: (1.0, 2.0, 8.0)})
    rank = Rank(0.01)
    seconds = calibrate_further(rank.step, alone, SEQUENCE, before, TENSOR, budget_seconds=0.5)
    assert max(tokens for _, tokens in rank.ran) == 100
    assert seconds[2] == seconds[1] * 8.0 / 2.0
