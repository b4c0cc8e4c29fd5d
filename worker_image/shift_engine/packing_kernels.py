"""`packing` on GPUs: one Triton kernel each way, which reads and writes every number once.

By torch the same takes a copy per tensor, a concatenation and a transposed copy, 3.5 to 4 times the time that the
memory's bandwidth allows. Every part that a kernel moves is a run of whole heads, contiguous on both sides, so each
program copies a block of [rows, columns] inside one such run.
"""

from math import gcd

import torch
import triton
import triton.language as tl
from torch import Tensor

from .placement import HeadPlacement

BLOCK = 4096  # numbers per program: 8 KiB in 16-bit types
MAX_COLUMNS, MIN_COLUMNS = 512, 16


def fits(*widths: int) -> bool:
    """Whether runs of these widths can be cut into whole blocks of columns."""
    return _columns(*widths) >= MIN_COLUMNS


def pack_heads(q: Tensor, k: Tensor, v: Tensor, heads: HeadPlacement) -> Tensor:
    """As `packing.pack_heads`; rows may have any stride, heads must be contiguous."""
    m, (head_size, value_size) = q.shape[0], (q.shape[2], v.shape[2])
    widths = (heads.host_query * head_size, heads.host_kv * head_size, heads.host_kv * value_size)
    columns = _columns(*widths)
    sent = torch.empty((heads.sequence, m, sum(widths)), dtype=q.dtype, device=q.device)
    rows = BLOCK // columns
    _pack[(triton.cdiv(m, rows), sum(widths) // columns, heads.sequence)](
        *(q, k, v, sent, m, q.stride(0), k.stride(0), v.stride(0)),
        *(*widths, head_size, value_size, heads.base_kv, heads.sequence, rows, columns),
    )
    return sent


def unpack_rows(received: Tensor, output: Tensor) -> None:
    """As `packing.unpack_rows`."""
    sequence, present, width = received.shape
    columns = _columns(width)
    rows = BLOCK // columns
    m = output.shape[0]
    _unpack[(triton.cdiv(m, rows), width // columns, sequence)](
        *(received, output, m, present, output.stride(0), width, rows, columns)
    )


def _columns(*widths: int) -> int:
    return gcd(*widths, MAX_COLUMNS)  # a power of two, since MAX_COLUMNS is one


@triton.jit
def _copy(source, source_stride, target, target_stride, m, rows: tl.constexpr, columns: tl.constexpr):
    """[m, columns] from one place to another, rows of them by this program."""
    row = (tl.program_id(0) * rows + tl.arange(0, rows)).to(tl.int64)[:, None]
    column = tl.arange(0, columns)[None, :]
    tl.store(target + row * target_stride + column, tl.load(source + row * source_stride + column, row < m), row < m)


@triton.jit(do_not_specialize=["m"])
def _pack(
    q,
    k,
    v,
    sent,
    m,
    q_stride,
    k_stride,
    v_stride,
    query_width: tl.constexpr,
    key_width: tl.constexpr,
    value_width: tl.constexpr,
    head_size: tl.constexpr,
    value_size: tl.constexpr,
    base_kv: tl.constexpr,
    sequence: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
):
    """Block `rank` of `sent` [SP, m, query_width + key_width + value_width]."""
    rank = tl.program_id(2)
    column = tl.program_id(1) * columns
    first_kv = rank * base_kv // sequence
    width: tl.constexpr = query_width + key_width + value_width
    target = sent + rank.to(tl.int64) * m * width + column
    if column < query_width:
        _copy(q + rank * query_width + column, q_stride, target, width, m, rows, columns)
    elif column < query_width + key_width:
        _copy(k + first_kv * head_size + column - query_width, k_stride, target, width, m, rows, columns)
    else:
        _copy(v + first_kv * value_size + column - query_width - key_width, v_stride, target, width, m, rows, columns)


@triton.jit(do_not_specialize=["m", "present"])
def _unpack(
    received, output, m, present, output_stride, width: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr
):
    """Columns of block `rank` of `received` [SP, present, width] -> `output` [m, SP * width], zeros below."""
    rank = tl.program_id(2)
    row = (tl.program_id(0) * rows + tl.arange(0, rows)).to(tl.int64)[:, None]
    column = (tl.program_id(1) * columns + tl.arange(0, columns))[None, :]
    block = received + rank.to(tl.int64) * present * width
    numbers = tl.load(block + row * width + column, row < present, other=0.0)
    tl.store(output + row * output_stride + rank * width + column, numbers, row < m)
