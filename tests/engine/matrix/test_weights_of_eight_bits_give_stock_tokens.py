"""Weights of eight bits (compressed-tensors): in fp8 they exist once, by torch's kernel; of int8, which vLLM packs on
CPU, the overlay has a copy.

Each token's activations have a scale of their own, so rows do not depend on each other; but under 1 x P a rank scales
its part of them, and one GPU all of them, so these differ by more than the order of sums.
"""

import pytest
from cells import FP8, FP8_ON_ONE_GPU, INT8, INT8_ON_ONE_GPU, Cell, Played

WHAT = ("tokens", "logprobs", "cached tokens")
ON_ONE_GPU = {FP8: FP8_ON_ONE_GPU, INT8: INT8_ON_ONE_GPU}
BOTH = pytest.mark.parametrize("cell", ON_ONE_GPU, ids=str)  # three engines each

# The matrix's tiny Llama: hidden 256, 2 layers, 8 query heads and 2 KV heads of 32. A projection of query, key and
# value has a byte for each weight and a scale of 4 bytes for each row.
QKV_IN_FP8 = 2 * (8 + 2 + 2) * 32 * (256 + 4)


@BOTH
def test_never_shifting_is_stock_tensor_parallelism_bit_for_bit(played: Played, cell: Cell) -> None:
    never, stock = played(cell)["never"], played(cell)["stock"]
    assert [never[what] for what in WHAT] == [stock[what] for what in WHAT]


@BOTH
def test_sequence_parallelism_is_one_gpu_bit_for_bit(played: Played, cell: Cell) -> None:
    always, one = played(cell)["always 2x1"], played(ON_ONE_GPU[cell])["stock"]
    assert [always[what] for what in WHAT] == [one[what] for what in WHAT]


@BOTH
def test_the_overlay_is_there_and_runs(played: Played, cell: Cell) -> None:
    found = played(cell)
    assert found["overlay"] == {"active": True, "reason": None}
    assert found["fallbacks"] == {}
    assert set(found["every step another"]["degrees"]) == {"1x2", "2x1"}


@pytest.mark.parametrize("cell", [FP8], ids=str)
def test_in_fp8_only_query_key_and_value_are_there_twice(played: Played, cell: Cell) -> None:
    assert played(cell)["weights"]["copiedBytes"] == QKV_IN_FP8
    assert "overlay weights shared degree=2x1" in played(cell)["log"]


@pytest.mark.parametrize("cell", [INT8], ids=str)
def test_the_log_says_how_many_bytes_of_int8_were_copied_and_why(played: Played, cell: Cell) -> None:
    weights, log = played(cell)["weights"], played(cell)["log"]
    assert weights["sharedBytes"] == 0
    assert f"overlay weights copied degree=2x1 bytes={weights['copiedBytes']} reason=" in log
    assert "is held by CompressedTensorsLinearMethod" in log
