"""Which hidden states the ranks of a sequence group send each other after a step: those that are sampled from. Pure.

A prefill of thousands of rows samples from one row per request, and nothing reads the others.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy
from numpy.typing import NDArray

Rows: TypeAlias = NDArray[numpy.int64]


@dataclass(frozen=True)
class RowBlocks:
    """An all-gather of equal blocks, one per rank: as many rows as the rank with the most sampled rows has of them."""

    send: Rows  # [block]: of this rank's own rows, its sampled ones, then any
    source: Rows  # [k]: where each sampled row lies in the gathered blocks
    target: Rows  # [k]: and where in the step


def blocks_of(rows: Rows, own_rows: int, rank: int, sequence: int) -> RowBlocks | None:
    """rows [k] of the step, ascending; each of `sequence` ranks holds the next `own_rows` of them.
    -> the blocks, or None where all rows would be sent anyway."""
    owner = rows // own_rows
    counts = numpy.bincount(owner, minlength=sequence)
    block = int(counts.max(initial=1))
    if block >= own_rows:
        return None
    first = numpy.cumsum(counts) - counts  # of each rank's rows among all sampled ones
    source = owner * block + numpy.arange(len(rows)) - first[owner]
    send: Rows = numpy.zeros(block, numpy.int64)
    own = rows[first[rank] : first[rank] + counts[rank]] - rank * own_rows
    send[: len(own)] = own
    return RowBlocks(send, source, rows)
