"""A MoE layer of the overlay sums the ranks' parts of the rows that they have, and shows no padding to an expert."""

from collections.abc import Callable

import pytest
import torch
from shift_engine.compat.experts import without_final_reduce
from shift_engine.degree import Degree
from shift_engine.moe import HostExperts
from shift_engine.ulysses import StepRows
from torch import Tensor, nn

HIDDEN = 6


def part_of(rank: int) -> Callable[[Tensor], Tensor]:
    """This rank's part of a layer that is not linear in its rows."""
    weight = torch.randn(HIDDEN, HIDDEN, generator=torch.Generator().manual_seed(rank), dtype=torch.float64)
    return lambda rows: torch.tanh(rows @ weight)


@pytest.mark.parametrize("degree", [Degree(2, 1), Degree(4, 1), Degree(2, 2)], ids=str)
@pytest.mark.parametrize("tokens", [1, 2, 3, 8, 13])
def test_rows_of_all_ranks_are_those_of_tensor_parallelism(degree: Degree, tokens: int) -> None:
    rows = torch.randn(tokens, HIDDEN, dtype=torch.float64)
    wanted = sum(part_of(rank)(rows) for rank in range(degree.gpus))
    m = -(-tokens // degree.sequence)
    garbage = torch.full((m * degree.sequence, HIDDEN), float("nan"), dtype=torch.float64)
    gathered = garbage.clone()
    gathered[:tokens] = rows
    step = StepRows()
    step.tokens = tokens
    sent: dict[int, Tensor] = {}

    for rank in range(degree.gpus):

        def keep(partial: Tensor, rank: int = rank) -> Tensor:
            sent[rank] = partial
            return partial[:m]

        layer = HostExperts(f"{rank}", part_of(rank), lambda own: gathered, keep, step)
        layer.run(gathered[:m], torch.empty(m, HIDDEN, dtype=torch.float64))

    summed = torch.stack([sent[rank] for rank in sent]).sum(0)
    torch.testing.assert_close(summed[:tokens], wanted)
    assert not summed[tokens:].any()


class Config:
    skip_final_all_reduce = False


class Runner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.moe_config = Config()


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(3, 3)
        self.experts = Runner()


def test_the_twin_has_the_hosts_weights_and_leaves_the_host_as_it_was() -> None:
    block = Block()
    twin = without_final_reduce(block)
    assert twin.experts.moe_config.skip_final_all_reduce
    assert not block.experts.moe_config.skip_final_all_reduce
    assert twin.experts is not block.experts
    assert [p.data_ptr() for p in twin.parameters()] == [p.data_ptr() for p in block.parameters()]
