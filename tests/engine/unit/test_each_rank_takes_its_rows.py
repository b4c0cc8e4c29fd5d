"""The flat token batch is cut into SP slices of equal length, whatever n is."""

import pytest
import torch
from shift_engine.overlay import own_rows


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 9, 61])
@pytest.mark.parametrize("sequence", [2, 4, 8])
def test_the_slices_together_are_the_batch_and_padding(n: int, sequence: int) -> None:
    rows = torch.arange(1, n + 1)
    slices = [own_rows(rows, rank, sequence) for rank in range(sequence)]
    assert len({len(own) for own in slices}) == 1
    assert torch.cat(slices)[:n].tolist() == rows.tolist()
    assert not torch.cat(slices)[n:].any()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_slice_is_a_tensor_of_its_own(rank: int) -> None:
    """A view's storage offset became a symbol of the compiled graph, and rank 1 of a compiled engine failed on it."""
    own = own_rows(torch.arange(8), rank, 2)
    assert own.storage_offset() == 0
    assert own.untyped_storage().nbytes() == own.nbytes
