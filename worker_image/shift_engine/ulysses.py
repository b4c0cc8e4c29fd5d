"""Ulysses attention around the host's own attention layer (arXiv 2509.16495, Algorithm 1; arXiv 2309.14509).

Shapes: m = ceil(n / SP) rows per rank, n rows in the step, h heads and e their size. `base` counts what a rank of the
overlay projects (1 / TP of all heads), `host` what it attends over (1 / P of all heads).
"""

from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from . import packing
from .packing import row_counts, unpack_heads
from .placement import HeadPlacement


class StepRows:
    """How many rows the present forward has; each layer reads it when it runs, so that no graph has it baked in."""

    def __init__(self) -> None:
        self.tokens = 0  # n, without the padding to a multiple of SP


class UlyssesAttention(nn.Module):
    """Stands where the model's `Attention` stood: all-to-all, the host's attention over its heads, all-to-all back."""

    def __init__(self, name: str, host: Any, heads: HeadPlacement, group: Any, step: StepRows) -> None:
        """`host` is the 1 x P model's Attention of the same layer, `group` the sequence group's coordinator."""
        super().__init__()
        self.name = name
        self.heads = heads
        self.width = heads.base_query * host.head_size_v
        # Outside of the module tree: the host's parameters and its KV cache must be seen once.
        self.__dict__.update(_host=host, _group=group, _step=step)
        self._rank = group.rank_in_group
        self._kernels, self._copies_needed = _ways_to_move(heads, host)
        LAYERS[name] = self

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, output_shape: Any = None, output_dtype: Any = None
    ) -> Tensor:
        """query [m, base_query * e], key and value [m, base_kv * e] -> [m, base_query * e_v]."""
        output = torch.empty((query.shape[0], self.width), dtype=output_dtype or query.dtype, device=query.device)
        torch.ops.shift.ulysses_attention(query, key, value, output, self.name)
        return output

    def attend(self, query: Tensor, key: Tensor, value: Tensor, output: Tensor) -> None:
        """The body of the op: runs eagerly, outside of any traced graph."""
        host, heads = self.__dict__["_host"], self.heads
        m, tokens = query.shape[0], self.__dict__["_step"].tokens
        q = query.view(m, heads.base_query, host.head_size)
        k = key.view(m, heads.base_kv, host.head_size)
        v = value.view(m, heads.base_kv, host.head_size_v)
        sent = self._kernels.pack_heads(q, k, v, heads)
        arrived = [*unpack_heads(self._exchange(sent, None), heads, host.head_size, tokens)]
        if self._copies_needed:
            arrived = [part.contiguous() for part in arrived]
        attended = host(*arrived)
        counts = row_counts(tokens, heads.sequence)
        received = self._exchange(attended, counts)
        self._kernels.unpack_rows(received.view(heads.sequence, counts[self._rank], attended.shape[1]), output)

    def _exchange(self, sent: Tensor, counts: list[int] | None) -> Tensor:
        """The rows for rank s of the sequence group to it, from each rank its rows for this one, in rank order.

        `sent` is [SP, ...] in equal blocks, or [n, ...] with `counts` rows per rank.
        """
        group = self.__dict__["_group"]
        if counts is None or counts[0] == counts[-1]:
            received = torch.empty_like(sent)
            torch.distributed.all_to_all_single(received, sent, group=group.device_group)
            return received
        own = counts[self._rank]
        received = sent.new_empty(own * len(counts), *sent.shape[1:])
        torch.distributed.all_to_all_single(received, sent, [own] * len(counts), counts, group=group.device_group)
        return received


def _ways_to_move(heads: HeadPlacement, host: Any) -> tuple[Any, bool]:
    """-> (the module that packs and unpacks, whether attention wants contiguous tensors).

    The attention backends on GPUs take rows of any stride: stock vLLM gives them views of the QKV projection's output.
    """
    widths = heads.host_query * host.head_size, heads.host_kv * host.head_size, heads.host_kv * host.head_size_v
    if not torch.cuda.is_available():
        return packing, True
    from . import packing_kernels  # needs Triton

    fit = packing_kernels.fits(*widths, heads.host_query * host.head_size_v)
    return packing_kernels if fit else packing, host.query_quant is not None


LAYERS: dict[str, UlyssesAttention] = {}  # by name: a traced graph carries no objects


def ulysses_attention(query: Tensor, key: Tensor, value: Tensor, output: Tensor, layer: str) -> None:
    """Custom op `shift::ulysses_attention`: opaque to Dynamo, so the collectives and the row count stay outside."""
    LAYERS[layer].attend(query, key, value, output)


def ulysses_attention_fake(query: Tensor, key: Tensor, value: Tensor, output: Tensor, layer: str) -> None:
    """Shapes are the caller's: `output` is written in place."""
