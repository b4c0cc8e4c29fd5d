"""Groups of vLLM 0.32's ranks, and what they exchange in a step of the overlay. No class of vLLM's is patched.

The one private global that is set, `parallel_state._TP`, is set around the overlay's construction and its forward where
its weights are split (TP > 1): layers ask it for their group.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from vllm.distributed import parallel_state


def new_group(ranks: list[list[int]], name: str, *, for_layers: bool) -> Any:
    """Collective. This rank's coordinator of the partition `ranks`. `for_layers`: vLLM's layers use it, so it gets the
    device's communicator; torch's own group is there either way."""
    world = parallel_state.get_world_group()
    return parallel_state.init_model_parallel_group(
        *(ranks, world.local_rank, torch.distributed.get_backend(world.device_group)),
        group_name=name,
        use_device_communicator=for_layers,
    )


def all_gather_rows(own: torch.Tensor, group: Any) -> torch.Tensor:
    """Collective. [m, d] of each rank of `group` -> [ranks * m, d] in rank order."""
    rows = own.new_empty((group.world_size * own.shape[0], *own.shape[1:]))
    torch.distributed.all_gather_single(rows, own.contiguous(), group=group.device_group)
    return rows


def sum_and_scatter_rows(partial: torch.Tensor, sequence: Any, tensor: Any) -> torch.Tensor:
    """Collective. [m * SP, d] of each rank of the replica -> [m, d]: this rank's rows, summed over all of them."""
    own = partial.new_empty((partial.shape[0] // sequence.world_size, *partial.shape[1:]))
    torch.distributed.reduce_scatter_single(own, partial, group=sequence.device_group)
    return own if tensor.world_size == 1 else tensor.all_reduce(own)


@contextmanager
def tensor_group(group: Any) -> Iterator[None]:
    """Within, vLLM's layers take `group` for the tensor-parallel group."""
    host = parallel_state._TP
    parallel_state._TP = group
    try:
        yield
    finally:
        parallel_state._TP = host
