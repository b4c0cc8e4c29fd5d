"""All models over one set of weights, on real vLLM (CPU, fp32): the same tokens, and no tensor twice but QKV."""

from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[[str], dict[str, Any]]
TWO_RANKS, FOUR_RANKS = "overlay 2x1, weights once", "overlay 2x2, weights once, then 4x1"
ENGINES = [TWO_RANKS, pytest.param(FOUR_RANKS, marks=pytest.mark.full)]
TWO_OVERLAYS = "4x1 and 2x2, compiled, weights once"
PHASES = ["never", "always", "every other"]
CLOSE = 1e-4  # of log-probabilities in fp32 between degrees: sums are split differently

# The tiny Llama of conftest.py: hidden 256, 4 layers, 8 query heads and 2 KV heads of 32, vocabulary 512, fp32.
WHOLE_MODEL = 4 * (4 * (256 * 256 * 2 + 2 * 64 * 256 + 3 * 256 * 768 + 2 * 256) + 256 + 2 * 512 * 256)
HEAD, QKV = 4 * 512 * 256, 4 * 4 * (8 + 2 + 2) * 32 * 256


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("phase", PHASES)
def test_tokens_are_those_of_stock_vllm(run: Run, name: str, phase: str) -> None:
    found, stock = run(name)[phase], run("stock TP=2")["stock"]
    assert found["tokens"] == stock["tokens"]
    for answers, of_stock in zip(found["logprobs"], stock["logprobs"], strict=True):
        assert answers == pytest.approx(of_stock, abs=CLOSE)


def test_one_gpus_order_of_sums_is_kept(run: Run) -> None:
    """The overlay's GEMMs are one GPU's; only the rows of gate and up lie in another order."""
    found, stock = run(TWO_RANKS)["always"], run("stock TP=1")["stock"]
    assert found["tokens"] == stock["tokens"]


@pytest.mark.parametrize("name", ENGINES)
def test_only_query_key_and_value_are_there_twice(run: Run, name: str) -> None:
    tensor = int(name.split("x")[1][0])
    start = run(name)["start"]
    for rank in start["tensors"]:
        replicated = 4 * (4 * 2 * 256 + 256)  # norms
        assert rank["overlay"] == (WHOLE_MODEL - HEAD - replicated) / tensor + replicated
        gpus = tensor * 2
        kv = max(2 // gpus, 1)
        of_host = 4 * 4 * (8 // gpus + 2 * kv) * 32 * 256 + HEAD / gpus
        assert rank["host alone"] == of_host
    weights = start["weights"]
    assert weights["copiedBytes"] == QKV / tensor
    assert weights["sharedBytes"] + weights["copiedBytes"] == start["tensors"][0]["overlay"]
    assert start["overlay"] == {"active": True, "reason": None}


@pytest.mark.full
def test_a_second_overlay_costs_its_query_key_and_value_alone(run: Run) -> None:
    """The rest of 2x2 lies in the tensors of 4x1, which was loaded first."""
    start = run(TWO_OVERLAYS)["start"]
    for rank in start["tensors"]:
        assert rank["further alone"] == QKV / 2
    assert start["weights"]["copiedBytes"] == QKV + QKV / 2


@pytest.mark.full
def test_a_degree_built_while_serving_leaves_the_others_weights_where_they_are(run: Run) -> None:
    """CUDA graphs have the host's addresses. So the wider overlay copies all but what is the same on each rank."""
    found = run(FOUR_RANKS)
    replicated = 4 * (4 * 2 * 256 + 256)  # norms
    for before, after in zip(found["start"]["tensors"], found["built in mid-request"]["tensors"], strict=True):
        assert {key: after[key] for key in ("overlay", "shared", "host alone")} == {
            key: before[key] for key in ("overlay", "shared", "host alone")
        }
        assert after["further alone"] == WHOLE_MODEL - HEAD - replicated


def test_where_weights_are_packed_the_overlay_has_its_own(run: Run) -> None:
    assert run("overlay 2x1")["start"]["weights"]["sharedBytes"] == 0
