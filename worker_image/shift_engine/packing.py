"""What the all-to-alls send and what they bring, as tensors: pure, for one rank at a time.

Shapes: m = ceil(n / SP) rows per rank, n rows in the step, h heads and e their size. `base` counts what a rank of the
overlay projects (1 / TP of all heads), `host` what it attends over (1 / P of all heads). The functions here say what is
right, on any device; on GPUs `packing_kernels` moves the same numbers in one pass.
"""

import torch
from torch import Tensor

from .placement import HeadPlacement


def pack_heads(q: Tensor, k: Tensor, v: Tensor, heads: HeadPlacement) -> Tensor:
    """q [m, base_query, e], k [m, base_kv, e], v [m, base_kv, e_v] -> [SP, m, host_query * e + host_kv * (e + e_v)].

    Block s goes to rank s of the sequence group: its query heads and the KV heads that these read.
    """
    m = q.shape[0]
    own = [q.reshape(m, heads.sequence, -1), _kv_blocks(k, heads), _kv_blocks(v, heads)]
    return torch.cat(own, dim=-1).transpose(0, 1).contiguous()


def unpack_heads(received: Tensor, heads: HeadPlacement, head_size: int, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """[SP, m, X] as received -> views q [n, host_query * e], k [n, host_kv * e], v [n, host_kv * e_v], n = `tokens`.

    The blocks arrive in token order. The rows of padding are dropped here, before the KV write: slot_mapping has n
    entries, the gathered keys ceil(n / SP) * SP rows; writing them all overwrote other requests' cache.
    """
    rows = received.flatten(0, 1)[:tokens]
    q_width, k_width = heads.host_query * head_size, heads.host_kv * head_size
    q, k, v = rows.split([q_width, k_width, rows.shape[1] - q_width - k_width], dim=-1)
    return q, k, v


def row_counts(tokens: int, sequence: int) -> list[int]:
    """How many of n rows each rank has: m, but fewer or none for the last ones where n does not divide."""
    m = -(-tokens // sequence)
    return [min(m, max(0, tokens - rank * m)) for rank in range(sequence)]


def unpack_rows(received: Tensor, output: Tensor) -> None:
    """received [SP, rows, host_query * e_v], block s holding the heads of rank s -> output [m, base_query * e_v].

    Rows of padding, where this rank has fewer than m, become zero: no number may come from memory that nobody wrote.
    """
    sequence, rows, width = received.shape
    output[:rows].view(rows, sequence, width).copy_(received.transpose(0, 1))
    output[rows:].zero_()


def _kv_blocks(kv: Tensor, heads: HeadPlacement) -> Tensor:
    """[m, base_kv, e] -> [m, SP, host_kv * e]; a head that several ranks need is sent to each of them."""
    if heads.base_kv == heads.sequence * heads.host_kv:
        return kv.reshape(kv.shape[0], heads.sequence, -1)
    wanted = [i for s in range(heads.sequence) for i in range(*heads.kv_slice(s).indices(heads.base_kv))]
    return kv[:, wanted].reshape(kv.shape[0], heads.sequence, -1)
