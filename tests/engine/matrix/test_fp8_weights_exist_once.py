"""Weights in fp8 with a scale for each row are shared as others are (compressed-tensors; by the kernel of torch)."""

from cells import FP8, FP8_ON_ONE_GPU, Played

WHAT = ("tokens", "logprobs", "cached tokens")

# The matrix's tiny Llama: hidden 256, 2 layers, 8 query heads and 2 KV heads of 32. A projection of query, key and
# value has a byte for each weight and a scale of 4 bytes for each row.
QKV = 2 * (8 + 2 + 2) * 32 * (256 + 4)


def test_never_shifting_is_stock_tensor_parallelism_bit_for_bit(played: Played) -> None:
    never, stock = played(FP8)["never"], played(FP8)["stock"]
    assert [never[what] for what in WHAT] == [stock[what] for what in WHAT]


def test_sequence_parallelism_is_one_gpu_bit_for_bit(played: Played) -> None:
    always, one = played(FP8)["always 2x1"], played(FP8_ON_ONE_GPU)["stock"]
    assert [always[what] for what in WHAT] == [one[what] for what in WHAT]


def test_only_query_key_and_value_are_there_twice(played: Played) -> None:
    assert played(FP8)["weights"]["copiedBytes"] == QKV
    assert "overlay weights shared degree=2x1" in played(FP8)["log"]


def test_the_overlay_is_there_and_runs(played: Played) -> None:
    found = played(FP8)
    assert found["overlay"] == {"active": True, "reason": None}
    assert found["fallbacks"] == {}
    assert set(found["every step another"]["degrees"]) == {"1x2", "2x1"}
