"""Weights that cannot be views of the overlay's are loaded a second time (compressed-tensors, int8, on CPU).

Each token's activations have a scale of their own, so rows do not depend on each other; but under 1 x P a rank scales
its part of them, and one GPU all of them, so these differ by more than the order of sums.
"""

import pytest
from cells import INT8, INT8_ON_ONE_GPU, Played

pytestmark = pytest.mark.full  # three engines
WHAT = ("tokens", "logprobs", "cached tokens")


def test_never_shifting_is_stock_tensor_parallelism_bit_for_bit(played: Played) -> None:
    never, stock = played(INT8)["never"], played(INT8)["stock"]
    assert [never[what] for what in WHAT] == [stock[what] for what in WHAT]


def test_sequence_parallelism_is_one_gpu_bit_for_bit(played: Played) -> None:
    always, one = played(INT8)["always 2x1"], played(INT8_ON_ONE_GPU)["stock"]
    assert [always[what] for what in WHAT] == [one[what] for what in WHAT]


def test_the_overlay_is_there_and_runs(played: Played) -> None:
    found = played(INT8)
    assert found["overlay"] == {"active": True, "reason": None}
    assert found["fallbacks"] == {}
    assert set(found["every step another"]["degrees"]) == {"1x2", "2x1"}


def test_the_log_says_how_many_bytes_were_copied_and_why(played: Played) -> None:
    weights, log = played(INT8)["weights"], played(INT8)["log"]
    assert weights["sharedBytes"] == 0
    assert f"overlay weights copied degree=2x1 bytes={weights['copiedBytes']} reason=" in log
    assert "is held by CompressedTensorsLinearMethod" in log
