"""The engine's promise, on real vLLM (CPU, fp32): overlay off is stock vLLM bit for bit, SP=P is TP=1 bit for bit, and
any schedule gives the same greedy tokens from the same KV cache.

The prompts have 1 to 500 tokens, are prefilled in chunks of at most 192, share a cached prefix, and decode together in
odd batches, at the end a single row at a time; serving/scenarios.py.
"""

from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[[str], dict[str, Any]]
CLOSE = 1e-4  # of log-probabilities in fp32 between degrees: sums are split differently

MATRIX = [
    *(("overlay 2x1", phase) for phase in ("never", "always", "mixed", "every other", "in mid-request")),
    *(("overlay 4x1", phase) for phase in ("always", "every other")),
    *(("overlay 2x2, compiled", phase) for phase in ("never", "always", "every other")),
]


def test_never_shifting_is_stock_tensor_parallelism_bit_for_bit(run: Run) -> None:
    assert answers(run("overlay 2x1")["never"]) == answers(run("stock TP=2")["stock"])


@pytest.mark.parametrize("name", ["overlay 2x1", "overlay 4x1"])
def test_pure_sequence_parallelism_is_one_gpu_bit_for_bit(run: Run, name: str) -> None:
    assert answers(run(name)["always"]) == answers(run("stock TP=1")["stock"])


@pytest.mark.parametrize(("name", "phase"), MATRIX)
def test_tokens_are_those_of_stock_vllm(run: Run, name: str, phase: str) -> None:
    found, stock = run(name)[phase], run("stock TP=2")["stock"]
    assert found["tokens"] == stock["tokens"]
    assert largest_difference(found["logprobs"], stock["logprobs"]) < CLOSE
    assert largest_difference(found["prompt logprobs"], stock["prompt logprobs"]) < CLOSE
    assert found["cached tokens"] == stock["cached tokens"] > 0  # the shared prefix came from the cache


@pytest.mark.parametrize(("name", "phase"), MATRIX)
def test_the_kv_cache_is_the_same_under_every_degree(run: Run, name: str, phase: str) -> None:
    """Rank r of P holds KV head r * 2 // P. A pad row that was written would change how much is written."""
    caches, stock = run(name)[phase]["cache"], run("stock TP=2")["stock"]["cache"]
    for rank, cache in enumerate(caches):
        for layer, of_stock in zip(cache, stock[rank * 2 // len(caches)], strict=True):
            assert layer["written"] == of_stock["written"]
            assert layer["magnitude"] == pytest.approx(of_stock["magnitude"], rel=1e-6)
            assert layer["sum"] == pytest.approx(of_stock["sum"], rel=1e-4)


@pytest.mark.parametrize(
    ("name", "phase", "degrees"),
    [
        ("overlay 2x1", "never", {"1x2"}),
        ("overlay 2x1", "always", {"2x1"}),
        ("overlay 2x1", "mixed", {"1x2", "2x1"}),
        ("overlay 4x1", "always", {"4x1"}),
        ("overlay 2x2, compiled", "every other", {"1x4", "2x2"}),
    ],
)
def test_the_steps_ran_at_the_degrees_of_the_schedule(run: Run, name: str, phase: str, degrees: set[str]) -> None:
    before, after = (steps_by_degree(run(name)[phase][when]) for when in ("before", "after"))
    assert {degree for degree in after if after[degree] > before.get(degree, 0)} == degrees
    assert run(name)[phase]["after"]["fallbacks"] == {}


def test_single_rows_are_padded_and_counted(run: Run) -> None:
    """n = 1 < SP: the other ranks compute a row of padding, which reaches no cache."""
    found = run("overlay 4x1")["always"]
    assert found["after"]["padTokens"] - found["before"]["padTokens"] >= 3 * 12


def test_alternating_changes_the_degree_at_every_step(run: Run) -> None:
    found = run("overlay 2x1")["every other"]
    steps = found["after"]["step"] - found["before"]["step"]
    assert found["after"]["transitions"] - found["before"]["transitions"] >= steps - 1


@pytest.mark.parametrize("name", ["overlay 2x1", "overlay 4x1", "overlay 2x2, compiled"])
def test_every_rank_confirms_a_schedule_at_the_same_step(run: Run, name: str) -> None:
    for phase, found in run(name).items():
        if phase != "start":
            ranks = found["confirmed"]
            assert [rank["rank"] for rank in ranks] == list(range(len(ranks)))
            assert len({(rank["generation"], rank["step"]) for rank in ranks}) == 1


@pytest.mark.parametrize("name", ["overlay 2x1", "overlay 4x1", "overlay 2x2, compiled"])
def test_both_modes_are_timed_before_the_first_step(run: Run, name: str) -> None:
    start = run(name)["start"]
    assert start["overlay"] == {"active": True, "reason": None}
    assert start["step"] == 0
    calibration = start["calibration"]
    assert len(calibration["curves"]) == 2
    assert calibration["sizes"][0] == 1
    assert all(len(c) == len(calibration["sizes"]) and min(c) > 0 for c in calibration["curves"].values())
    assert {layer["written"] for rank in start["cache"] for layer in rank} == {0}  # nothing but real steps writes


def test_what_the_overlay_cannot_do_runs_stock_and_says_so(run: Run) -> None:
    start, found = run("LoRA")["start"], run("LoRA")["always"]
    assert start["overlay"] == {"active": False, "reason": "the overlay does not support LoRA yet"}
    assert found["tokens"] == run("stock TP=2")["stock"]["tokens"]
    assert found["after"]["fallbacks"] == {"OverlayInactive": found["after"]["step"]}
    assert set(steps_by_degree(found["after"])) == {"1x2"}


def answers(found: dict[str, Any]) -> list[Any]:
    return [found[key] for key in ("tokens", "logprobs", "prompt logprobs")]


def largest_difference(one: list[list[float]], other: list[list[float]]) -> float:
    return max(abs(a - b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))


def steps_by_degree(stats: dict[str, Any]) -> dict[str, int]:
    return {degree: totals["steps"] for degree, totals in stats["degrees"].items()}
