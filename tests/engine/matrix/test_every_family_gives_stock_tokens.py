"""The engine's promise for other architectures than Llama's, and for every number of KV heads (CPU, fp32).

Some cells are played beside stock vLLM at the same P, one of each in `make test-engine`. The rest of the product of
families, KV heads and GPUs is not; there an engine whose overlay never runs stands for stock vLLM, which it equals bit
for bit beside it.
"""

import pytest
from cells import BESIDE_STOCK, FAMILIES, MOE_FAMILIES, REST, SUBSET, Cell, Played

CLOSE = 1e-4  # of log-probabilities in fp32 between degrees: sums are split differently
EVERY_CELL = (*BESIDE_STOCK, *REST)


@pytest.mark.parametrize("cell", BESIDE_STOCK, ids=str)
def test_never_shifting_is_stock_tensor_parallelism_bit_for_bit(played: Played, cell: Cell) -> None:
    found = played(cell)
    for what in ("tokens", "logprobs", "cached tokens"):
        assert found["never"][what] == found["stock"][what]


@pytest.mark.parametrize("cell", EVERY_CELL, ids=str)
def test_tokens_are_those_of_stock_vllm(played: Played, cell: Cell) -> None:
    found = played(cell)
    stock = found.get("stock", found["never"])
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


@pytest.mark.parametrize("cell", [cell for cell in BESIDE_STOCK if not cell.is_moe], ids=str)
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


@pytest.mark.parametrize("cell", [cell for cell in BESIDE_STOCK if cell.is_moe], ids=str)
def test_no_expert_is_there_twice(played: Played, cell: Cell) -> None:
    """By data pointers, on every rank: two layers of two tensors, and no other tensor of their shapes."""
    for rank in played(cell)["experts"]:
        assert rank["overlays"] == list(cell.degrees)
        assert len(rank["of the host"]) == 2 * 2
        assert rank["anywhere"] == rank["of the host"]
        assert rank["in overlays"] == []


def test_every_family_degree_and_number_of_kv_heads_is_played_beside_stock_vllm() -> None:
    assert {cell.family for cell in BESIDE_STOCK} == {*FAMILIES, *MOE_FAMILIES}
    assert {degree for cell in BESIDE_STOCK for degree in cell.degrees} == {d for c in EVERY_CELL for d in c.degrees}
    assert {cell.kv_heads for cell in BESIDE_STOCK} == {cell.kv_heads for cell in EVERY_CELL}
    assert any(cell.kv_heads < cell.gpus for cell in BESIDE_STOCK)
    played_each_time = [cell for cell in BESIDE_STOCK if cell in SUBSET]
    assert {cell.is_moe for cell in played_each_time} == {True, False}
