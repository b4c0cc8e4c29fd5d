"""The all-to-all's algebra, all ranks in one process: each rank attends over the heads that stock TP=P gives it."""

import pytest
import torch
from shift_engine.degree import Degree
from shift_engine.groups import sequence_groups, tensor_groups
from shift_engine.packing import pack_heads, row_counts, unpack_heads, unpack_rows
from shift_engine.placement import place_heads

E, E_V = 4, 6  # head sizes of q and k, and of v
DEGREES = [Degree(2, 1), Degree(4, 1), Degree(2, 2), Degree(4, 2), Degree(8, 1)]


@pytest.mark.parametrize("degree", DEGREES, ids=str)
@pytest.mark.parametrize("kv_heads", [1, 2, 4, 8])
@pytest.mark.parametrize("tokens", [1, 2, 3, 7, 8, 13])
def test_every_rank_gets_its_heads_for_all_rows_and_no_padding(degree: Degree, kv_heads: int, tokens: int) -> None:
    query_heads, gpus = 8, degree.gpus
    torch.manual_seed(0)
    q, k = torch.randn(tokens, query_heads, E), torch.randn(tokens, kv_heads, E)
    v = torch.randn(tokens, kv_heads, E_V)
    heads = place_heads(query_heads, kv_heads, degree)
    m = -(-tokens // degree.sequence)

    for t, group in enumerate(sequence_groups(degree)):
        sent = []
        for s in range(degree.sequence):
            rows = slice(s * m, (s + 1) * m)
            own_kv = _base_kv_heads(kv_heads, degree.tensor, t)
            base = (q[rows, t * heads.base_query :][:, : heads.base_query], k[rows][:, own_kv], v[rows][:, own_kv])
            sent.append(pack_heads(*(_padded(x, m) for x in base), heads))
        for s, rank in enumerate(group):
            received = torch.stack([block[s] for block in sent])
            got_q, got_k, got_v = unpack_heads(received, heads, E, tokens)
            assert got_k.shape[0] == tokens  # never the padded rows: slot_mapping has one entry per token
            host_kv = _base_kv_heads(kv_heads, gpus, rank)
            assert torch.equal(got_q, q[:, rank * heads.host_query :][:, : heads.host_query].flatten(1))
            assert torch.equal(got_k, k[:, host_kv].flatten(1))
            assert torch.equal(got_v, v[:, host_kv].flatten(1))


@pytest.mark.parametrize("degree", DEGREES, ids=str)
@pytest.mark.parametrize("tokens", [1, 5, 8])
def test_the_way_back_gives_each_rank_its_rows_with_all_its_heads(degree: Degree, tokens: int) -> None:
    heads = place_heads(8, 8, degree)
    attended = torch.randn(tokens, 8 * E_V)
    m, width = -(-tokens // degree.sequence), heads.host_query * E_V
    for t, group in enumerate(sequence_groups(degree)):
        counts = row_counts(tokens, degree.sequence)
        sent = [attended[:, rank * width :][:, :width].split(counts) for rank in group]
        for s in range(degree.sequence):
            rows = torch.full((m, degree.sequence * width), float("nan"))
            unpack_rows(torch.stack([blocks[s] for blocks in sent]), rows)
            wanted = attended[s * m : (s + 1) * m, t * heads.base_query * E_V :][:, : heads.base_query * E_V]
            assert torch.equal(rows, _padded(wanted, m))


@pytest.mark.parametrize("degree", DEGREES, ids=str)
def test_groups_partition_the_ranks_in_ascending_order(degree: Degree) -> None:
    for groups in (sequence_groups(degree), tensor_groups(degree)):
        assert sorted(rank for group in groups for rank in group) == list(range(degree.gpus))
        assert all(group == sorted(group) for group in groups)


@pytest.mark.parametrize(
    ("query", "kv", "degree", "said"),
    [
        (6, 2, Degree(4, 1), "6 query heads do not divide by 4 GPUs"),
        (8, 3, Degree(2, 1), "3 KV heads and 2 ranks: one must divide by the other"),
        (12, 6, Degree(3, 4), "6 KV heads and 4 ranks"),
    ],
)
def test_heads_that_do_not_divide_are_said_so(query: int, kv: int, degree: Degree, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        place_heads(query, kv, degree)


def _base_kv_heads(kv_heads: int, ranks: int, rank: int) -> list[int]:
    """The KV heads that vLLM's QKVParallelLinear gives to a rank: a share, or a replicated one."""
    share = max(1, kv_heads // ranks)
    first = rank * kv_heads // ranks
    return list(range(first, first + share))


def _padded(rows: torch.Tensor, m: int) -> torch.Tensor:
    return torch.cat([rows, rows.new_zeros(m - rows.shape[0], *rows.shape[1:])])
