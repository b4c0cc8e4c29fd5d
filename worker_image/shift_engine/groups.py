"""The process groups of a degree: who exchanges tokens, who shares the weights."""

from dataclasses import dataclass
from typing import Any

from .compat import collectives
from .degree import Degree


def sequence_groups(degree: Degree) -> list[list[int]]:
    """Ranks that split the tokens and hold the same weight shard: {t * SP .. t * SP + SP - 1}."""
    return [[t * degree.sequence + s for s in range(degree.sequence)] for t in range(degree.tensor)]


def tensor_groups(degree: Degree) -> list[list[int]]:
    """Ranks that split the weights and hold the same tokens: {s, SP + s, ...}."""
    return [[t * degree.sequence + s for t in range(degree.tensor)] for s in range(degree.sequence)]


@dataclass(frozen=True)
class DegreeGroups:
    """This rank's vLLM GroupCoordinators under one degree."""

    sequence: Any
    tensor: Any


def create_groups(degree: Degree) -> DegreeGroups:
    """Collective: every rank of the replica calls it at the same time.

    On CPU vLLM gives groups whose name begins with "tp" its all-reduce over shared memory. On GPUs a group has to be
    named "tp" for the custom all-reduce, and then gets FlashInfer's too, which would sum over the host's ranks: so a
    degree with TP > 1 sums by NCCL.
    """
    return DegreeGroups(
        sequence=collectives.new_group(sequence_groups(degree), f"shift_sequence_{degree}", for_layers=False),
        tensor=collectives.new_group(tensor_groups(degree), f"tp_shift_{degree}", for_layers=True),
    )
