"""The engine's promise for other architectures than Llama's, and for every number of KV heads (CPU, fp32), each beside
stock vLLM at the same P: a dense model and one with experts in `make test-engine`, the whole product of families, KV
heads and GPUs in `make test-engine-full`.
"""

from itertools import product

import pytest
from cells import DENSE_CELLS, EVERY_CELL, FAMILIES, KV_HEADS, MOE_CELLS, MOE_FAMILIES, SUBSET, Cell, Played

CLOSE = 1e-4  # of log-probabilities in fp32 between degrees: sums are split differently


@pytest.mark.parametrize("cell", EVERY_CELL, ids=str)
def test_never_shifting_is_stock_tensor_parallelism_bit_for_bit(played: Played, cell: Cell) -> None:
    found = played(cell)
    for what in ("tokens", "logprobs", "cached tokens"):
        assert found["never"][what] == found["stock"][what]


@pytest.mark.parametrize("cell", EVERY_CELL, ids=str)
def test_tokens_are_those_of_stock_vllm(played: Played, cell: Cell) -> None:
    found = played(cell)
    stock = found["stock"]
    assert len({tuple(tokens) for tokens in stock["tokens"]}) > 3  # prompts have answers of their own
    for phase in cell.phases:
        assert found[phase]["tokens"] == stock["tokens"], phase
        assert found[phase]["cached tokens"] == stock["cached tokens"] > 0, phase
        for logprobs, of_stock in zip(found[phase]["logprobs"], stock["logprobs"], strict=True):
            assert logprobs == pytest.approx(of_stock, abs=CLOSE), phase


@pytest.mark.parametrize("cell", EVERY_CELL, ids=str)
def test_every_step_ran_at_the_degree_asked_for(played: Played, cell: Cell) -> None:
    found = played(cell)
    assert found["overlay"] == {"active": True, "reason": None}
    assert found["fallbacks"] == {}
    full = f"1x{cell.gpus}"
    assert set(found["never"]["degrees"]) == {full}
    for degree in cell.degrees:
        assert set(found[f"always {degree}"]["degrees"]) == {degree}
    steps = found["every step another"]["degrees"]
    assert set(steps) == {full, *cell.degrees}
    assert max(steps.values()) - min(steps.values()) <= 1


@pytest.mark.parametrize("cell", DENSE_CELLS, ids=str)
def test_the_ranks_send_each_other_the_sampled_rows_alone(played: Played, cell: Cell) -> None:
    """One per request, in equal blocks; where all of a rank's rows are sampled, all. Experts gather rows as well."""
    found = played(cell)
    assert {sent for _, _, sent in found["never"]["sent"]} == {0}
    for degree in cell.degrees:
        sequence = int(degree.partition("x")[0])
        steps = found[f"always {degree}"]["sent"]
        assert max(tokens for tokens, _, _ in steps) == 64
        for tokens, requests, sent in steps:
            most = min(requests, -(-tokens // sequence))
            assert sent in range(sequence, sequence * most + 1, sequence), (tokens, requests)


@pytest.mark.parametrize("cell", MOE_CELLS, ids=str)
def test_no_expert_is_there_twice(played: Played, cell: Cell) -> None:
    """By data pointers, on every rank: two layers of two tensors, and no other tensor of their shapes."""
    for rank in played(cell)["experts"]:
        assert rank["overlays"] == list(cell.degrees)
        assert len(rank["of the host"]) == 2 * 2
        assert rank["anywhere"] == rank["of the host"]
        assert rank["in overlays"] == []


def test_every_family_runs_with_every_number_of_kv_heads_at_two_and_four_gpus() -> None:
    """The two families with experts share what each dense one has."""
    shapes = sorted(product((2, 4), KV_HEADS))
    for family in FAMILIES:
        assert sorted((cell.gpus, cell.kv_heads) for cell in DENSE_CELLS if cell.family == family) == shapes
    assert sorted((cell.gpus, cell.kv_heads) for cell in MOE_CELLS) == shapes
    assert {(cell.family, cell.gpus) for cell in MOE_CELLS} == set(product(MOE_FAMILIES, (2, 4)))
    assert {cell.is_moe for cell in SUBSET if cell in EVERY_CELL} == {True, False}
