"""Ulysses attention around the host's own attention layer (arXiv 2509.16495, Algorithm 1; arXiv 2309.14509).

Shapes: m = ceil(n / SP) rows per rank, n rows in the step, h heads and e their size. `base` counts what a rank of the
overlay projects (1 / TP of all heads), `host` what it attends over (1 / P of all heads).
"""

from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from .placement import HeadPlacement


class StepRows:
    """How many rows the present forward has; each layer reads it when it runs, so that no graph has it baked in."""

    def __init__(self) -> None:
        self.tokens = 0  # n, without the padding to a multiple of SP


def pack_heads(q: Tensor, k: Tensor, v: Tensor, heads: HeadPlacement) -> Tensor:
    """q [m, base_query, e], k [m, base_kv, e], v [m, base_kv, e_v] -> [SP, m, host_query * e + host_kv * (e + e_v)].

    Block s goes to rank s of the sequence group: its query heads and the KV heads that these read.
    """
    m = q.shape[0]
    own = [q.reshape(m, heads.sequence, -1), _kv_blocks(k, heads), _kv_blocks(v, heads)]
    return torch.cat(own, dim=-1).transpose(0, 1).contiguous()


def unpack_heads(received: Tensor, heads: HeadPlacement, head_size: int, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """[SP, m, X] as received -> q [n, host_query * e], k [n, host_kv * e], v [n, host_kv * e_v], n = `tokens`.

    The blocks arrive in token order. The rows of padding are dropped here, before the KV write: slot_mapping has n
    entries, the gathered keys ceil(n / SP) * SP rows; writing them all overwrote other requests' cache.
    """
    rows = received.flatten(0, 1)[:tokens]
    q_width, k_width = heads.host_query * head_size, heads.host_kv * head_size
    v_width = rows.shape[1] - q_width - k_width
    q, k, v = rows.split([q_width, k_width, v_width], dim=-1)
    return q.contiguous(), k.contiguous(), v.contiguous()


def pack_rows(attended: Tensor, sequence: int) -> Tensor:
    """[n, host_query * e_v] -> [SP, m, host_query * e_v]: block s is the rows of rank s; padding rows are zero."""
    tokens, width = attended.shape
    m = -(-tokens // sequence)
    if m * sequence != tokens:
        attended = torch.cat([attended, attended.new_zeros(m * sequence - tokens, width)])
    return attended.view(sequence, m, width)


def unpack_rows(received: Tensor) -> Tensor:
    """[SP, m, host_query * e_v] as received, block s holding the heads of rank s -> [m, base_query * e_v]."""
    return received.transpose(0, 1).flatten(1)


class UlyssesAttention(nn.Module):
    """Stands where the model's `Attention` stood: all-to-all, the host's attention over its heads, all-to-all back."""

    def __init__(self, name: str, host: Any, heads: HeadPlacement, group: Any, step: StepRows) -> None:
        """`host` is the 1 x P model's Attention of the same layer, `group` the sequence group's coordinator."""
        super().__init__()
        self.name = name
        self.heads = heads
        self.width = heads.base_query * host.head_size_v
        # Outside of the module tree: the host's parameters and its KV cache must be seen once.
        self.__dict__.update(_host=host, _group=group.device_group, _step=step)
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
        sent = pack_heads(
            query.view(m, heads.base_query, host.head_size),
            key.view(m, heads.base_kv, host.head_size),
            value.view(m, heads.base_kv, host.head_size_v),
            heads,
        )
        attended = host(*unpack_heads(self._exchange(sent), heads, host.head_size, tokens))
        output.copy_(unpack_rows(self._exchange(pack_rows(attended, heads.sequence))))

    def _exchange(self, blocks: Tensor) -> Tensor:
        """[SP, ...]: block s to rank s of the sequence group."""
        received = torch.empty_like(blocks)
        torch.distributed.all_to_all_single(received, blocks, group=self.__dict__["_group"])
        return received


LAYERS: dict[str, UlyssesAttention] = {}  # by name: a traced graph carries no objects


def ulysses_attention(query: Tensor, key: Tensor, value: Tensor, output: Tensor, layer: str) -> None:
    """Custom op `shift::ulysses_attention`: opaque to Dynamo, so the collectives and the row count stay outside."""
    LAYERS[layer].attend(query, key, value, output)


def ulysses_attention_fake(query: Tensor, key: Tensor, value: Tensor, output: Tensor, layer: str) -> None:
    """Shapes are the caller's: `output` is written in place."""


def _kv_blocks(kv: Tensor, heads: HeadPlacement) -> Tensor:
    """[m, base_kv, e] -> [m, SP, host_kv * e]; a head that several ranks need is sent to each of them."""
    if heads.base_kv == heads.sequence * heads.host_kv:
        return kv.reshape(kv.shape[0], heads.sequence, -1)
    wanted = [i for s in range(heads.sequence) for i in range(*heads.kv_slice(s).indices(heads.base_kv))]
    return kv[:, wanted].reshape(kv.shape[0], heads.sequence, -1)
