"""A mixture of experts in the overlay: the host's own experts, between an all-gather and a reduce-scatter of rows.

A MoE layer works on each row alone, f(x) = sum over ranks r of partial_r(x), whether the ranks split every expert or
share the experts out. 1 x P computes all_reduce(partial_r(X)); the overlay computes reduce_scatter(partial_r(
all_gather(X_s))): the same sums of the same rows by the same kernels. So no expert exists twice, and the layer moves as
many bytes as one all-reduce. Where TP > 1 the sequence group's sum is a part, and an all-reduce of the rank's own rows
over the tensor group adds the others.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .ulysses import StepRows

Rows = Callable[[Tensor], Tensor]


class HostExperts(nn.Module):
    """Stands where the overlay's MoE block stood."""

    def __init__(self, name: str, partial: Rows, gather: Rows, reduce_scatter: Rows, step: StepRows) -> None:
        """`partial`: [n, d] -> this rank's part of the host's layer; `gather`: [m, d] -> [m * SP, d]; `reduce_scatter`:
        [m * SP, d] -> [m, d], summed over all ranks of the replica."""
        super().__init__()
        self.name = name
        # Outside of the module tree: the host's parameters must be seen once.
        self.__dict__.update(_partial=partial, _gather=gather, _reduce_scatter=reduce_scatter, _step=step)
        LAYERS[name] = self

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[m, d] -> [m, d]."""
        output = torch.empty_like(hidden_states)
        torch.ops.shift.host_experts(hidden_states, output, self.name)
        return output

    def run(self, hidden_states: Tensor, output: Tensor) -> None:
        """The body of the op: runs eagerly, outside of any traced graph.

        Rows of padding never reach an expert: they would be routed, and count in dynamic scales and in load balancing.
        """
        tokens = self.__dict__["_step"].tokens
        rows = self.__dict__["_gather"](hidden_states)
        partial = torch.zeros_like(rows)
        partial[:tokens] = self.__dict__["_partial"](rows[:tokens])
        output.copy_(self.__dict__["_reduce_scatter"](partial))


LAYERS: dict[str, HostExperts] = {}  # by name: a traced graph carries no objects


def host_experts(hidden_states: Tensor, output: Tensor, layer: str) -> None:
    """Custom op `shift::host_experts`: opaque to Dynamo, so the collectives and the row count stay outside."""
    LAYERS[layer].run(hidden_states, output)


def host_experts_fake(hidden_states: Tensor, output: Tensor, layer: str) -> None:
    """Shapes are the caller's: `output` is written in place."""
